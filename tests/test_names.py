"""Names of modules: one alias per module, the same in every file; constants through their table."""

import ast
import functools
import importlib
import importlib.util
import sys
import types

from support.floors import PACKAGES, ROOT, tree_of

SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))

# A module that is imported under another name has that name in every file, and no other module
# has it. Tables of constants are always named through it, so that a reader knows where a number
# comes from. docs/architecture.md lists them, too.
CONSTANTS = {
    "shmalloc.constants": "c",
    "shmalloc.constants_slab": "cs",
    "shmalloc.engine.ops": "ops",
    "stress.machine.block": "cb",
}
ALIASES = {
    **CONSTANTS,
    "shmalloc.arena": "arena_file",
    "shmalloc.cpus": "slots",
    "shmalloc.kernels.cache": "cache_kernels",
    "shmalloc.kernels.recover": "recover_kernels",
    "shmalloc.words": "words_module",
    "stress.check.changes": "changing",
    "stress.check.select": "selecting",
    "stress.crash.kernels": "crash_kernels",
    "stress.crash.strategy": "crash_strategy",
    "stress.explorer.dpor.search": "dpor_search",
    "stress.explorer.strategies.dfs": "dfs_search",
    "stress.jitter.state": "jitter_state",
    "stress.gates.state": "gate_state",
    "stress.linearize.result": "lin",
    "stress.litmus.cells": "litmus_cells",
    "stress.oracles.histories": "histories",
    "stress.progress": "watching",
    "stress.trace.format": "trace_format",
    "stress.workloads.trace": "trace_kernels",
    "model_programs": "m",
    "support.memory_kernels": "accesses",
    "support.meaning_kernels": "meaning",
    "hypothesis.strategies": "st",
    "json": "json_module",
    "llvmlite.binding": "llvm",
    "numpy": "np",
}
EVERY_FILE = sorted(
    path
    for folder in (*PACKAGES, "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)


@functools.cache
def modules_bound(path):
    """What a file's imports bind: (module, name it has there, whether the file chose the name)."""
    return list(imports_of(tree_of(path)))


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for part in node.names:
                own, usual = part.asname or part.name, part.name.rpartition(".")[2]
                yield home + part.name, own, bool(part.asname) and own != usual


def is_a_table(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) in CONSTANTS


@functools.cache
def is_a_module(name):
    home, _, last = name.rpartition(".")
    if name in ALIASES or not home:
        return name in ALIASES
    bound = vars(importlib.import_module(home)).get(last)  # a function may hide a module
    if bound is None and hasattr(sys.modules[home], "__path__"):
        return importlib.util.find_spec(name) is not None
    return isinstance(bound, types.ModuleType)


def test_a_module_has_one_alias_and_an_alias_one_module():
    assert len(set(ALIASES.values())) == len(ALIASES)
    for path in EVERY_FILE:
        for module, name, chosen in modules_bound(path):
            if (chosen and is_a_module(module)) or module in CONSTANTS:
                assert name == ALIASES.get(module), f"{path.relative_to(ROOT)}: {module} as {name}"


def test_constants_are_named_through_the_alias_of_their_table():
    for path in EVERY_FILE:
        for module, name, _ in modules_bound(path):
            home = module.rpartition(".")[0]
            assert home not in CONSTANTS or is_a_table(path), f"{path}: {name}"


def test_few_lines_escape_the_formatter():
    kept = [p for p in SOURCES for line in p.read_text().splitlines() if "# fmt: skip" in line]
    assert len(kept) <= 60
