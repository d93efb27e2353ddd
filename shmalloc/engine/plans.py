"""Which kernels are compiled together, if a program asks for one and names no plan.

An image is made in one piece, and what two of its entries call is compiled once. So a kernel comes
with those that are likely to follow:

- what an ``Arena`` and the files that it stands on pass to an engine, all of it (``ARENA``): a
  program that allocates a page will free it
- any other kernel of the allocator: all of them
- a kernel of some other module: those of its module; what is not in the dialect is left out

A command that knows what it needs calls ``Native.warm`` and gets an image of just that.

Modules of kernels are named here, not imported: this file costs nothing until a plan is wanted.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable
from typing import Any

from shmalloc.dialect import Kernel, is_kernel

ALLOCATOR = "shmalloc.kernels"
ARENA: dict[str, tuple[str, ...]] = {
    "audit": ("audit",),
    "audit_owners": ("audit_owners",),
    "audit_quiet": ("audit_quiet",),
    "boot": ("boot",),
    "cache": ("cache_alloc", "cache_free"),
    "cache_bulk": ("cache_alloc_bulk_gfp", "cache_free_bulk"),
    "cache_gfp": ("cache_alloc_gfp",),
    "cache_set": ("cache_create", "cache_destroy", "cache_shrink"),
    "contig": (
        "alloc_contig_range",
        "free_contig_range",
        "isolate_range",
        "offline_range",
        "online_range",
        "unisolate_range",
    ),
    "array_recovery": ("copy_references", "reap_ticket", "reap_tickets", "recover_arrays"),
    "hotplug": ("plug_cpu", "unplug_cpu"),
    "page_owner": ("enter_stack", "set_clocks"),
    "kmalloc": ("kfree", "kmalloc", "kmalloc_boot", "kmalloc_gfp", "usable_bytes"),
    "pages": ("alloc_pages", "free_pages", "free_pages_of"),
    "pages_bulk": ("alloc_bulk", "free_bulk"),
    "pages_wait": ("alloc_pages_wait",),
    "pcp": ("drain_all",),
    "poison": ("poison_page",),
    "reap": ("adopt_object", "adopt_pages", "reap"),
    "reclaim": ("disarm_reclaim",),
    "reclaimer": ("all_balanced", "arm_reclaim", "reclaim_pass", "reclaim_rest"),
    "recover": ("recover", "unblock"),
    "shared_arrays": (
        "drop_array",
        "exchange_array",
        "load_array",
        "make_array",
        "make_run",
        "open_array",
        "send_array",
    ),
    "slab_audit": ("audit_slabs",),
    "stack_depot": ("find_stack", "publish_stack", "reserve_stack"),
    "waiters": ("pause_for_memory",),
    "slots": ("claim_slot", "mark_dead", "publish", "release_slot"),
    "try_pages": ("try_alloc_pages", "try_free_pages"),
}


def plan_of(function: Kernel) -> list[Kernel]:
    """``function`` and the kernels compiled with it."""
    if not is_kernel(function):
        return [function]  # to be refused by name
    home = function.__module__ or ""  # None in code that was run by exec
    if not home.startswith(f"{ALLOCATOR}."):
        return _of_modules([home] if home in sys.modules else [], function)
    plan = arena()
    return plan if function in plan else _of_modules(_allocator_modules(), function)


def arena() -> list[Kernel]:
    """The kernels that an ``Arena`` may call."""
    return [
        getattr(_module(f"{ALLOCATOR}.{module}"), name)
        for module, names in ARENA.items()
        for name in names
    ]


def _allocator_modules() -> list[str]:
    path = _module(ALLOCATOR).__path__
    return [f"{ALLOCATOR}.{info.name}" for info in pkgutil.iter_modules(path)]


def _module(name: str) -> Any:
    return sys.modules.get(name) or importlib.import_module(name)


def _of_modules(names: list[str], wanted: Kernel) -> list[Kernel]:
    found = dict.fromkeys([wanted])
    for name in names:
        for value in list(vars(_module(name)).values()):
            if is_kernel(value) and value.__module__ == name and _takes_memory(value):
                found[value] = None
    return list(found)


def _takes_memory(function: Kernel) -> bool:
    code = function.__code__
    return code.co_argcount > 0 and code.co_varnames[0] == "mem"


_groups: list[list[Kernel]] = []


def register_drivers(functions: Iterable[Kernel]) -> None:
    """Name functions over a control block that Python calls: a group of them makes one image."""
    _groups.append(list(functions))


def drivers_with(function: Kernel) -> list[Kernel]:
    """The group that ``function`` is in."""
    return next((group for group in _groups if function in group), [function])
