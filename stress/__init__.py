"""stress: finds races and list corruption in shmalloc and in any shared-memory algorithm.

``python -m stress run`` starts worker processes on one segment and checks them with oracles that
do not trust the allocator. Importing this package imports no compiler and no terminal library.
"""

from shmalloc import __version__

__all__ = ["__version__"]
