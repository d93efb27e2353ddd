"""The allocator: kernels and nothing else. Each file states its data and the rules for its callers.

Order of floors, low to high: bits, reporting < lock, zone < lists, descriptor < buddy < fallback <
pcp < fill, poison < pages < contig, walk, boot; objects < slab_debug < slab_format < slab < barn
< sheaf < object_layout < cache < cache_set < kmalloc < hotplug; array_table < shared_arrays, on
contig and slab_format; the audits on top.
"""

from __future__ import annotations
