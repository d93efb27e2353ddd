"""shmalloc: page and object allocators over one shared-memory segment, used by many processes.

Importing this package imports no compiler: the native engine is loaded at its first use.
"""

from shmalloc.dialect import kernel
from shmalloc.memory import Ram

__version__ = "0.1.0"
__all__ = ["Ram", "__version__", "kernel"]
