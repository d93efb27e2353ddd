"""The rules of the house that no tool checks: floors, sizes, kernel dialect, no machine's name."""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from pathlib import Path

import stress.explorer.dpor
import stress.explorer.strategies
import stress.jitter
import stress.machine
from shmalloc import dialect
from shmalloc.compiler.check import violations
from support.floors import (
    FLOORS,
    FOLDERS,
    MODULES,
    PACKAGES,
    ROOT,
    circles,
    graph,
    imports_of,
    module_name,
    part_of,
    row_of,
    tree_of,
)

SOURCES = sorted(MODULES.values())
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_PARAMETERS = 6
# Options by name, with defaults: what a user may say in one call.
MANY_OPTIONS = {"Arena.create", "ObjectOperations.cache", "explore", "rerun"}
# Kernels that still take more: mostly hot paths that would have to read the rest again, and three
# (alloc_bulk, bulk_from_zone, bad_rest) that wait for a measurement. None may join them.
MANY_VALUES = {
    "alloc_bulk", "bad_rest", "bulk_from_zone", "expand", "free_object", "free_to_pcp",
    "push_freed", "record", "report", "take_block", "alloc_from_pcp",
}  # fmt: skip
CALLED_BY_CLICK = "stress/commands/"
# A table of numbers may be long; everything else is one concept a file.
LONG_FILES = {"shmalloc/constants.py"}

ONLY_IN = {
    "llvmlite": ("shmalloc.compiler.codegen",),
    "greenlet": ("stress.machine.interpreted",),
    "click": ("stress.cli", "stress.commands", "stress.options"),
    "textual": ("stress.top.app",),
    "prometheus_client": ("stress.metrics",),
    "hypothesis": ("stress.hypothesis",),
    "junitparser": ("stress.report.junit",),
    "jinja2": ("stress.explorer.report.html", "stress.report.page.render"),
    "matplotlib": ("stress.report.page", "stress.bench.plot"),
    "pytest": ("shmalloc.pytest_plugin", "stress.pytest_plugin"),
}


def test_a_module_imports_only_from_its_floor_and_below():
    floors = {name: row_of(name)[1] for name in MODULES}
    assert [
        (name, other)
        for name, others in graph().items()
        for other in others - set(PACKAGES)
        if floors[other] > floors[name]
    ] == []


def test_every_folder_has_a_floor():
    rows = {name for names in FLOORS for name in names}
    folders = {".".join(folder.relative_to(ROOT).parts) for folder in FOLDERS}
    assert folders - rows == set()


def test_every_floor_holds_something():
    assert {name for names in FLOORS for name in names} - {row_of(m)[0] for m in MODULES} == set()


def test_no_files_import_each_other_in_a_circle():
    assert circles(graph()) == []


def test_no_folders_of_stress_import_each_other_in_a_circle():
    edges = defaultdict(set)
    for name, others in graph().items():
        if name.startswith("stress."):
            below = {part_of(other) for other in others if other.startswith("stress.")}
            edges[part_of(name)] |= below - {part_of(name)}
    assert circles(edges) == []


ARCHITECTURE = ROOT / "docs" / "architecture.md"
PLACE = re.compile(r"(?<![\w/.-])(?:shmalloc|stress|tests|docs|benchmarks|examples)/[\w./-]*")
FILE = re.compile(r"(?<![\w/.-])\w+\.py\b")


def test_every_place_in_the_map_exists():
    text = ARCHITECTURE.read_text()
    places = {place.rstrip(".") for place in PLACE.findall(text)}
    assert len(places) > 20
    assert {place for place in places if not (ROOT / place).exists()} == set()
    files = {path.name for path in SOURCES}
    assert {name for name in FILE.findall(text) if name not in files} == set()


def test_every_folder_is_on_the_map():
    text = ARCHITECTURE.read_text()
    folders = {f"{folder.relative_to(ROOT)}/" for folder in FOLDERS}
    assert {folder for folder in folders if f"`{folder}`" not in text} == set()


def test_a_circle_is_found_through_an_import_inside_of_a_function(tmp_path):
    late = tmp_path / "late.py"
    late.write_text("def f():\n    from stress.machine import block\n")
    assert imports_of(late) == {"stress.machine.block"}
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert circles(edges) == [["a", "b", "c"], ["d", "e"]]


def test_an_import_for_the_checker_is_none(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("if TYPE_CHECKING:\n    import stress.cli\nelse:\n    import stress.seeds\n")
    assert imports_of(module) == {"stress.seeds"}


def test_compiler_and_task_switcher_are_imported_only_by_their_engine():
    assert [
        (name, library)
        for name, path in MODULES.items()
        for library in {module.split(".")[0] for module in imports_of(path)} & set(ONLY_IN)
        if not name.startswith(ONLY_IN[library])
    ] == []


def test_shmalloc_never_imports_stress():
    users = [
        module_name(p)
        for p in SOURCES
        if p.is_relative_to(ROOT / "shmalloc")
        and any(m.split(".")[0] == "stress" for m in imports_of(p))
    ]
    assert users == []


def lines_of_imports(tree):
    """They say nothing of a file's size: the sorter writes one name a line."""
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return sum(node.end_lineno - node.lineno + 1 for node in imports)


def test_files_keep_their_size():
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        - lines_of_imports(tree_of(path))
        for path in SOURCES
    }
    assert {f: n for f, n in sizes.items() if n > MAX_FILE_LINES and f not in LONG_FILES} == {}


def test_functions_keep_their_size():
    sizes = {
        (module_name(path), node.name): node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {place: n for place, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}


def public_functions(tree, home=""):
    """Each public function of a file or class, by its name there."""
    for node in ast.iter_child_nodes(tree):
        if getattr(node, "name", "_").startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield f"{home}{node.name}", node


def test_public_functions_take_few_parameters():
    crowded = set()
    for path in SOURCES:
        if CALLED_BY_CLICK not in str(path):
            for name, node in public_functions(tree_of(path)):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if sum(a.arg not in ("self", "cls") for a in taken) > MAX_PARAMETERS:
                    crowded.add(name)
    assert crowded == MANY_OPTIONS | MANY_VALUES


def test_every_file_opens_with_what_it_is():
    trees = {path: tree_of(path) for path in SOURCES}
    assert [p for p, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_every_kernel_keeps_the_dialect():
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not info.name.endswith("__main__"):
                importlib.import_module(info.name)
    kernels = [f for f in dialect.KERNELS.values() if str(f.__module__).split(".")[0] in PACKAGES]
    assert len(kernels) > 100
    assert [v for f in kernels for v in violations(f)] == []


def scheduler_functions():
    """Functions over a control block: the model's machine and the strategies."""
    homes = [stress.machine, stress.jitter, stress.explorer.strategies, stress.explorer.dpor]
    for home in homes:
        for info in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
            module = importlib.import_module(info.name)
            for value in vars(module).values():
                if dialect.is_kernel(value) and value.__module__ == info.name:
                    yield value


def test_the_scheduler_keeps_the_dialect_of_kernels():
    functions = list(scheduler_functions())
    assert len(functions) > 100
    assert [v for f in functions for v in violations(f)] == []


MACHINE = re.compile(r"/root/|/home/\w|\bpypi\.(?!org\b)\w+\.|10\.\d+\.\d+\.\d+|127\.0\.0\.1:\d{4}")


def test_no_file_names_a_machine():
    kinds = (".py", ".md", ".toml", ".ini", ".cfg", ".txt", "")
    places = [ROOT / d for d in (*PACKAGES, "docs", "tests", "benchmarks", "examples", ".ci")]
    files = [p for d in places if d.exists() for p in d.rglob("*") if p.suffix in kinds]
    files = [p for p in files if p.is_file() and "__pycache__" not in p.parts]
    files.remove(Path(__file__).resolve())
    named = [str(p) for p in files if MACHINE.search(p.read_text(errors="replace"))]
    assert named == []


def test_no_leftover_notes_in_the_code():
    note = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [path for path in SOURCES if note.search(path.read_text())] == []
