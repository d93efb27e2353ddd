"""Which module may import which: the floors of the house, and the graph of its imports.

An import under TYPE_CHECKING does not count: it runs nothing. It is for annotations, and in the
compiler a module and the code that it makes annotate each other. An import inside a function counts
like any other.

One exception is not in the graph: the pytest plugin lies in shmalloc, and its loading.py reaches
stress through importlib for a test that uses it. pytest imports the plugin in projects that have a
package ``stress`` of their own, which ours must not hide.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("shmalloc", "stress")

# Low to high; a module imports only from its own floor and below. The longest name counts.
FLOORS = (
    ("shmalloc.constants", "shmalloc.constants_slab", "shmalloc.invariants", "shmalloc.errors",
     "shmalloc.units", "shmalloc.parent", "shmalloc.sizes"),
    ("shmalloc.store_layout", "shmalloc.checked"),
    ("shmalloc.layout", "shmalloc.geometry_rules", "shmalloc.sampled_layout"),
    ("shmalloc.words", "shmalloc.dialect", "shmalloc.compiler.integers"),
    ("shmalloc.compiler",),
    ("shmalloc.memory",),
    ("shmalloc.kernels", "shmalloc.structures.kernels"),
    ("shmalloc.engine",),
    ("shmalloc.processes", "shmalloc.image", "shmalloc.physical",
     "shmalloc.fixed_words", "shmalloc.main_guard", "shmalloc.limits",
     "shmalloc.cgroup", "shmalloc.file_lock", "shmalloc.leftovers", "shmalloc.segment_file",
     "shmalloc.liveness", "shmalloc.forking",
     "shmalloc.observed", "shmalloc.descriptor_text", "shmalloc.word_names",
     "shmalloc.report_text", "shmalloc.history"),
    ("shmalloc.segment", "shmalloc.cpus"),
    ("shmalloc", "shmalloc.structures"),
    ("shmalloc.pytest_plugin",),
    ("stress.quantities", "stress.shell", "stress.line", "stress.seeds", "stress.verdict",
     "stress.progress", "stress.surroundings", "stress.signals", "stress.tables", "stress.broken"),
    ("stress.settings",),
    ("stress.machine", "stress.jitter", "stress.faults", "stress.oracles", "stress.geometry",
     "stress.sync", "stress.zones"),
    ("stress.workloads", "stress.programs", "stress.spec"),
    ("stress.trace", "stress.explorer.strategies"),
    ("stress.explorer.dpor",),
    ("stress.explorer", "stress.explorer.report"),
    ("stress.explorer.explore", "stress.explorer.replay"),
    ("stress.crash", "stress.linearize", "stress.hypothesis", "stress.gates"),
    ("stress.check",),
    ("stress.run",),
    ("stress.records",),
    ("stress.report", "stress.report.page", "stress.report.suites"),
    ("stress.explain",),
    ("stress.top", "stress.metrics"),
    ("stress.litmus", "stress.mutants", "stress.bisect", "stress.bench"),
    ("stress.soak",),
    ("stress.options",),
    ("stress.commands",),
    ("stress.pytest_plugin",),
    ("stress",),
)  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
FOLDERS = sorted({path.parent for path in MODULES.values()})


def row_of(module: str) -> tuple[str, int]:
    """The name in FLOORS that ``module`` comes under, and the floor."""
    matches = [
        (len(name), name, floor)
        for floor, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    _, name, floor = max(matches)
    return name, floor


@cache
def tree_of(path: Path) -> ast.Module:
    """The file at ``path``, parsed once for all rules that read it."""
    return ast.parse(path.read_text())


def _is_for_the_checker(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Modules of ours and others that ``path`` imports, anywhere in its code."""
    nodes = list(ast.walk(tree_of(path)))
    annotations = {
        id(node)
        for block in nodes
        if _is_for_the_checker(block)
        for statement in block.body
        for node in ast.walk(statement)
    }
    found: set[str] = set()
    for node in nodes:
        if id(node) in annotations:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update(_named(node.module, [alias.name for alias in node.names]))
    return frozenset(found)


def _named(module: str, names: list[str]) -> set[str]:
    """What ``from module import names`` imports: submodules where they are, else the module."""
    below = {f"{module}.{name}" for name in names} & set(MODULES)
    return below if len(below) == len(names) else below | {module}


@cache
def graph() -> dict[str, set[str]]:
    """Our modules, and which of them each imports."""
    return {
        name: {other for other in imports_of(path) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }


def part_of(module: str) -> str:
    """The folder of ``shmalloc`` or ``stress`` that a module is in, else the module itself."""
    parts = module.split(".")
    folder = ".".join(parts[:2])
    return folder if len(parts) == 1 or (ROOT / folder.replace(".", "/")).is_dir() else module


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: strongly connected components of more than one.

    A node is in a circle if it reaches itself; two are in the same one if each reaches the other.
    """
    reached = {node: _reached(node, edges) for node in edges}
    found: list[list[str]] = []
    seen: set[str] = set()
    for node in sorted(edges):
        if node not in seen and node in reached[node]:
            group = [other for other in sorted(reached[node]) if node in reached.get(other, ())]
            seen.update(group)
            found.append(group)
    return found


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(edges[start])
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += edges.get(node, ())
    return found
