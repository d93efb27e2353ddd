"""The allocator: kernels and nothing else. Each file states its data and its callers' rules.

Order of floors, low to high: bits, notes < lock, zone < lists, descriptor < buddy < fallback <
pcp < content, poison < pages < contig, walk, boot; objects < slabdebug < slabformat < slab < barn
< sheaf < shape < cache < cacheset < kmalloc < hotplug; handles < shared_arrays, on contig and
slabformat; audit, slabaudit on top.

The import system binds a package to its name in the parent, over whatever is there: after the
first import of a file of this one, ``from shmalloc import kernel`` gives this package instead of
the decorator. So the package is the decorator, too.
"""

import sys
from types import FunctionType, ModuleType

from shmalloc import dialect


class _Package(ModuleType):
    def __call__(self, function: FunctionType) -> FunctionType:
        """What ``@kernel`` does."""
        return dialect.kernel(function)


sys.modules[__name__].__class__ = _Package
