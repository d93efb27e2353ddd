"""The house's rules that no tool checks: floors, sizes, the kernel dialect, no machine's name."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import stress.explorer.dpor
import stress.explorer.strategies
import stress.jitter
import stress.machine
from shmalloc import dialect
from shmalloc.compiler.check import violations

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("shmalloc", "stress")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
# A table of numbers may be long; everything else is one concept a file.
LONG_FILES = {"shmalloc/constants.py"}

# Floors, low to high; a module imports only from its own floor and below.
FLOORS = (
    ("shmalloc.constants", "shmalloc.constants_slab", "shmalloc.invariants", "shmalloc.errors",
     "shmalloc.units"),
    ("shmalloc.layout",),
    ("shmalloc.words", "shmalloc.dialect", "shmalloc.compiler.integers"),
    ("shmalloc.compiler",),
    ("shmalloc.memory",),
    ("shmalloc.kernels",),
    ("shmalloc.engine",),
    ("shmalloc.sizes", "shmalloc.processes", "shmalloc.image", "shmalloc.physical",
     "shmalloc.leftovers", "shmalloc.descriptor_text", "shmalloc.word_names",
     "shmalloc.report_text", "shmalloc.history"),
    ("shmalloc.segment", "shmalloc.cpus"),
    ("shmalloc",),
    ("stress.workloads", "stress.oracles", "stress.seeds", "stress.quantities", "stress.verdict",
     "stress.spec", "stress.settings", "stress.faults.grammar", "stress.jitter", "stress.machine"),
    ("stress",),
)  # fmt: skip
ONLY_IN = {
    "llvmlite": ("shmalloc.compiler.codegen",),
    "greenlet": ("stress.machine.interpreted",),
    "click": ("stress.cli", "stress.commands", "stress.options"),
    "jinja2": ("stress.explorer.report.html",),
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module):
    matches = [
        (len(name), index)
        for index, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return max(matches)[1]


def imports_of(path):
    """Modules of ours and others that ``path`` imports at any level of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            if node.module in PACKAGES or (ROOT / node.module.replace(".", "/")).is_dir():
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_only_from_its_floor_and_below(path):
    own = floor_of(module_name(path))
    ours = {m for m in imports_of(path) if m.split(".")[0] in PACKAGES and is_module(m)}
    ours -= {"shmalloc", "stress"}
    assert {m for m in ours if floor_of(m) > own} == set()


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_compiler_and_task_switcher_are_imported_only_by_their_engine(path):
    name = module_name(path)
    for library, places in ONLY_IN.items():
        used = {m for m in imports_of(path) if m.split(".")[0] == library}
        assert not used or any(name.startswith(place) for place in places), f"{name}: {library}"


def test_shmalloc_never_imports_stress():
    users = [module_name(p) for p in SOURCES if p.is_relative_to(ROOT / "shmalloc")
             and any(m.split(".")[0] == "stress" for m in imports_of(p))]  # fmt: skip
    assert users == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_keep_their_size(path):
    lines = path.read_text().splitlines()
    name = str(path.relative_to(ROOT))
    assert len(lines) <= MAX_FILE_LINES or name in LONG_FILES, f"{name}: {len(lines)} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.lineno + 1
            assert size <= MAX_FUNCTION_LINES, f"{name}: {node.name} has {size} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_file_opens_with_what_it_is(path):
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text)), f"{path}: no docstring"


def test_every_kernel_keeps_the_dialect():
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not info.name.endswith("__main__"):
                importlib.import_module(info.name)
    kernels = [f for f in dialect.KERNELS.values() if f.__module__.split(".")[0] in PACKAGES]
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


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_leftover_notes_in_the_code(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())
