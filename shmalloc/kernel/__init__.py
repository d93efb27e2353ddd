"""The allocator: kernels and nothing else. Each file states its data and its callers' rules.

Order of floors, low to high: bits, notes < lock, zone < lists, descriptor < buddy < fallback <
pcp < content, poison < pages < contig, walk, boot; objects < slabdebug < slabformat < slab < barn
< sheaf < shape < cache < cacheset < kmalloc < hotplug; audit, slabaudit on top.
"""
