r"""LLFree as a peer: its C version, built as a shared library and named by ``--peer llfree=FILE``.

::

    git clone https://github.com/luhsra/llfree-c && cd llfree-c
    clang -O3 -march=native -DNDEBUG -DSTD -std=c11 -fPIC -shared \
        -I include -I std -I src src/*.c -o libllfree.so

What is called, on x86-64, as include/llfree.h of 2026 declares it::

    sizes   llfree_metadata_size(classing *, frames)
    result  llfree_init(self *, frames, LLFREE_INIT_FREE, meta, classing *)
    result  llfree_get(self *, frame_id_optional, request)      peer_loops.py has these two
    result  llfree_put(self *, frame_id, request)

The classing is that of ``llfree_classing_simple``: class 0 for orders below 9, class 1 above, and a
local slot for each worker in both. LLFree keeps addresses in its state, so every worker maps the
state at one address; then it serves several processes as it serves threads.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

INIT, SIZES, TAKE, GIVE = "llfree_init", "llfree_metadata_size", "llfree_get", "llfree_put"
MACHINE = "x86_64"
MOST_CLASSES = 8
FRAMES = 1 << 18  # 1 GiB of 4 KiB, none of which it ever touches
LINE = 64
CHECK_LIMIT_S = 30
_INIT_FREE = 0
_CHECK = "import ctypes, sys; lib = ctypes.CDLL(sys.argv[1]); [lib[n] for n in sys.argv[2:]]"


_PARTS = ("llfree", "local", "trees", "lower")


class _Conf(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint8), ("count", ctypes.c_size_t))


class _Classing(ctypes.Structure):
    _fields_ = (
        ("classes", _Conf * MOST_CLASSES),
        ("num_classes", ctypes.c_size_t),
        ("default_class", ctypes.c_uint8),
        ("policy", ctypes.c_void_p),
    )


class _Sizes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _PARTS)


class _Meta(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("local", "trees", "lower"))


class _Result(ctypes.Structure):
    _fields_ = (("frame", ctypes.c_uint64), ("of", ctypes.c_uint8), ("error", ctypes.c_uint8))


def problem_of(file: str) -> str:
    """Why the library cannot be used, in a sentence; "": it can.

    Asked in a process of its own, because a library cannot be unloaded.
    """
    command = [sys.executable, "-c", _CHECK, str(file), INIT, SIZES, TAKE, GIVE]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_LIMIT_S)
    if ended.returncode == 0:
        return ""
    last = ended.stderr.strip().splitlines()[-1:] or ["it ended without a reason"]
    return last[0].partition(": ")[2] or last[0]


def set_up(library: ctypes.CDLL, at: int, room: int, cores: int, policy: int) -> None:
    """Make an allocator of FRAMES frames in the ``room`` bytes at ``at``, which are zero.

    ``policy``: the address of the function that llfree.h calls llfree_policy_fn. Raises ``OSError``
    if LLFree refuses, or needs more room.
    """
    classing = _Classing(num_classes=2, default_class=1, policy=policy)
    for number in range(2):
        classing.classes[number] = _Conf(number, cores)
    sizes_of = getattr(library, SIZES)
    sizes_of.restype, sizes_of.argtypes = _Sizes, [ctypes.c_void_p, ctypes.c_size_t]
    sizes = sizes_of(ctypes.addressof(classing), FRAMES)
    places, end = {}, at
    for name in _PARTS:
        places[name] = end
        end = -(-(end + getattr(sizes, name)) // LINE) * LINE
    if end - at > room:
        raise OSError(f"llfree needs {end - at} bytes of state, and there are {room}")
    init = getattr(library, INIT)
    init.restype = _Result
    init.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint8, _Meta, ctypes.c_void_p]
    meta = _Meta(places["local"], places["trees"], places["lower"])
    assert places["llfree"] == at
    made = init(at, FRAMES, _INIT_FREE, meta, ctypes.addressof(classing))
    if made.error != 0:
        raise OSError(f"llfree_init refused with error {made.error}")
