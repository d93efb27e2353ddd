"""Kernels as plain Python functions, made once: what interpreted engines and the explorer run.

To check, type and rewrite the 300 kernels that a program of the allocator reaches takes most of a
second, and gives the same each time. So what came of it is kept in the store of images (store.py)
for the next process: one file for each kernel that was asked for and took many others along::

    key        a digest of the kernel and of all that it reaches, as this process imported them, of
               the compiler's sources, and of the version of Python (digest.py)
    payload    marshal of {(identity, takes memory): (code, callees, result)} for all that it
               reaches; callees: {name in the code: (identity, takes memory)}

    runnable(function)      the rewritten kernel, its callees too
    result_of(function)     what it returns: a type of types.py

A kernel that is not in the dialect is never kept: its error comes again in each process. Code that
another folder's copy of a package left is given the file of ours.

What it does not do: rewrite (rewrite.py), or call a kernel for callers that are no kernels (entry).
"""

from __future__ import annotations

import marshal
from types import CodeType, FunctionType
from typing import TypeAlias

from shmalloc.compiler import digest, store
from shmalloc.compiler.kinds import ANY
from shmalloc.compiler.rewrite import linked, rewritten
from shmalloc.compiler.scope import scope_of
from shmalloc.compiler.types import Type, analyse
from shmalloc.dialect import Kernel, is_kernel

_Which: TypeAlias = tuple[Kernel, bool]  # and whether it is given a memory
_Rewritten: TypeAlias = tuple[CodeType, dict[str, _Which], Type]
_Name: TypeAlias = tuple[str, bool]  # of a ``_Which``
_Kept: TypeAlias = tuple[CodeType, dict[str, _Name], Type]

FOLDER = "rewritten"  # of the usual directory
WORTH_KEEPING = 20  # kernels: fewer are rewritten faster than a file is written

_rewritten: dict[_Which, _Rewritten] = {}
_made: dict[_Which, Kernel] = {}


def runnable(function: Kernel, takes_memory: bool = True) -> Kernel:
    """``function`` rewritten, with all that it calls; a primitive does not change.

    Raises ``DialectError`` for what is not in the dialect.
    """
    if not is_kernel(function):
        return function
    made = _made.get((function, takes_memory))
    if made is None:
        code, callees, _ = _get((function, takes_memory))
        bound = {name: runnable(*callee) for name, callee in callees.items()}
        made = _made.setdefault((function, takes_memory), linked(function, code, bound))
    return made


def result_of(function: Kernel) -> Type:
    """What ``function``, given a memory, returns. Raises ``DialectError`` as ``runnable`` does."""
    return _get((function, True))[2]


def forget() -> None:
    """Forget all rewritten kernels."""
    _rewritten.clear()
    _made.clear()


def _get(which: _Which) -> _Rewritten:
    if which not in _rewritten:
        key = digest.key_of_rewritten(*which)
        payload = store.default_store(FOLDER).peek(key)
        if payload is not None:
            _load(which, marshal.loads(payload))
        else:
            before = len(_rewritten)
            _rewrite(which)
            if len(_rewritten) - before >= WORTH_KEEPING:
                _keep(which, key)
    return _rewritten[which]


def _rewrite(which: _Which) -> None:
    """Rewrite ``which`` and all that it reaches."""
    function, takes_memory = which
    if which not in _rewritten and is_kernel(function):
        form = analyse(function, ANY if takes_memory else None)
        code, callees = rewritten(form)
        for callee in callees.values():
            _rewrite(callee)
        _rewritten[which] = code, callees, form.result


def _keep(which: _Which, key: str) -> None:
    found: dict[_Which, _Kept] = {}
    _reached(which, found)
    names = {_name_of(one): kept for one, kept in found.items()}
    if len(names) == len(found):  # else two have one name: modules of the same name
        store.default_store(FOLDER).put(key, marshal.dumps(names), lambda _: None)


def _reached(which: _Which, found: dict[_Which, _Kept]) -> None:
    """Add ``which`` and all that it reaches to ``found``."""
    if which not in found and is_kernel(which[0]):
        code, callees, result = _rewritten[which]
        found[which] = code, {name: _name_of(one) for name, one in callees.items()}, result
        for callee in callees.values():
            _reached(callee, found)


def _load(which: _Which, kept: dict[_Name, _Kept]) -> None:
    """Take what a file has of ``which`` and of all that it reaches."""
    function = which[0]
    if which not in _rewritten and is_kernel(function):
        code, names, result = kept[_name_of(which)]
        known = _functions_of(function)
        callees = {name: (known[callee], memory) for name, (callee, memory) in names.items()}
        for callee in callees.values():
            _load(callee, kept)
        here = code.replace(co_filename=function.__code__.co_filename)
        _rewritten[which] = here, callees, result


def _name_of(which: _Which) -> _Name:
    return digest.identity(which[0]), which[1]


def _functions_of(function: Kernel) -> dict[str, Kernel]:
    """The functions that ``function`` names, by what they are called in a file."""
    scope = scope_of(function)
    named = (*scope.names.values(), *scope.members.values())
    return {digest.identity(one): one for one in named if isinstance(one, FunctionType)}
