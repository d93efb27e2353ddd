"""The delaying memory: kernels over the segment, with something before and after each access.

Importing this package registers the engine ``jitter``. ``ram`` is the memory, ``state`` what its
hooks do, ``native`` how they are compiled, ``delays`` which places wait, ``recorder`` the flight
recorder, ``spec`` the text of ``--jitter``.
"""

from shmalloc.engine import Engine, register_engine


def _engine() -> Engine:
    from stress.jitter.native import JitterEngine  # the compiler: only where it is used

    return JitterEngine()


register_engine("jitter", _engine)
