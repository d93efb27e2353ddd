"""The allocator: kernels and nothing else. Each file states its data and its callers' rules.

Order of floors, low to high: bits, notes, lock < lists, descriptor, zone < buddy < pcp < pages
< contig, slab < sheaf < cache < kmalloc < walk, audit, boot.
"""
