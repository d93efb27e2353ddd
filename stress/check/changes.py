"""What differs between the working tree and a revision of git, by names at the top of modules.

Only names whose meaning may have changed: a comment, a docstring or an annotation is no change.
A constant counts like a function, so what names a changed constant is found through it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import shmalloc
import stress
from shmalloc.errors import MisuseError
from stress.check.source import Name, Nodes, nodes_of

PACKAGES = {package.__name__: Path(str(package.__file__)).parent for package in (shmalloc, stress)}
HEAD = "HEAD"
OTHER_CHECKOUT = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"}


@dataclass
class Changes:
    """``names``: with the line they are at now, 0 for what is gone. ``others``: changed files in
    which nothing is that a program could run."""

    since: str
    names: dict[Name, int] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)  # by module
    others: list[str] = field(default_factory=list)
    users: dict[str, Path] = field(default_factory=dict)  # by module; changed or not


def changes_since(revision: str | None, files: Sequence[Path] = ()) -> Changes:
    """What changed in the packages, and in ``files`` besides, since a revision (HEAD).

    With files, what this process has loaded from their checkouts counts as well: load them first.
    Raises ``MisuseError`` outside of a git checkout, or for a revision that is none.
    """
    found = Changes(revision or HEAD)
    tops = {top for top in (checkout_of(path) for path in files) if top is not None}
    found.users = {path.stem: path for path in files} | _loaded_from(tops)
    packages = packages_checkout()
    if packages is not None:
        tops.add(packages)
    _require_these(packages)
    if not tops:
        raise MisuseError(
            f"changed: {PACKAGES['shmalloc'].parent} is in no git checkout; name the parts to"
            " check, such as buddy"
        )
    users = {path.resolve(): module for module, path in found.users.items()}
    for top in sorted(tops):
        for name in _changed_files(top, found.since):
            path = top / name
            module = _module_of(path) or users.get(path.resolve())
            if module is None:
                found.others.append(name)
            else:
                found.files[module] = path
                _compare(found, top, name, module)
    return found


def checkout_of(path: Path) -> Path | None:
    """The top of the git checkout that tracks a file or folder; None if there is none."""
    folder = path if path.is_dir() else path.parent
    top = git(folder, "rev-parse", "--show-toplevel")
    return None if top is None else Path(os.fsdecode(top.rstrip(b"\n")))


def _loaded_from(tops: Collection[Path]) -> dict[str, Path]:
    """The modules that users' programs import from these checkouts, by the names in kernels."""
    found: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name == "__main__" or not file.endswith(".py"):
            continue
        path = Path(file)
        if _module_of(path) is None and any(path.is_relative_to(top) for top in tops):
            found[name.removeprefix("explored_")] = path
    return found


def packages_checkout() -> Path | None:
    """That of the packages: not one that only lies around the place they are installed in."""
    place = PACKAGES["shmalloc"]
    tracked = git(place, "ls-files", "--error-unmatch", "__init__.py")
    return None if tracked is None else checkout_of(place)


def _require_these(packages: Path | None) -> None:
    """Raises ``MisuseError`` where we stand in another checkout of the allocator."""
    said = other_packages(packages)
    if said:
        raise MisuseError(f"changed: {said}")


def other_packages(packages: Path | None) -> str:
    """What to say in a checkout of the allocator that is not the one that runs; else empty."""
    try:
        here = checkout_of(Path.cwd())
    except FileNotFoundError:
        return ""
    if here is None or here == packages or not (here / "shmalloc" / "kernels").is_dir():
        return ""
    return (
        f"this process runs the packages in {PACKAGES['shmalloc'].parent}, not those"
        f" of {here}; install that checkout (pip install -e {here}) or set PYTHONPATH={here}"
    )


def _module_of(path: Path) -> str | None:
    """The name of a module in the packages; None for another file."""
    for name, place in PACKAGES.items():
        if path.suffix == ".py" and path.is_relative_to(place):
            parts = path.relative_to(place).with_suffix("").parts
            return ".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)])
    return None


def _changed_files(top: Path, revision: str) -> list[str]:
    if git(top, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
        raise MisuseError(f"since: {revision!r} is no commit of {top}; see git log")
    differing = git(top, "diff", "--name-only", "--no-renames", "-z", revision, "--")
    new = git(top, "ls-files", "--others", "--exclude-standard", "-z")
    names = [*(differing or b"").split(b"\0"), *(new or b"").split(b"\0")]
    return sorted({os.fsdecode(name) for name in names if name.endswith(b".py")})


def _compare(found: Changes, top: Path, name: str, module: str) -> None:
    """Take the names of one module that are not what they were."""
    before = git(top, "show", f"{found.since}:{name}")
    path = top / name
    old = _nodes(before, module, path)
    new = _nodes(path.read_bytes() if path.is_file() else None, module, path)
    for one in old.keys() | new.keys():
        if one not in new:
            found.names[Name(module, one)] = 0
        elif one not in old or old[one].text != new[one].text:
            found.names[Name(module, one)] = new[one].line


def _nodes(text: bytes | None, module: str, path: Path) -> Nodes:
    if text is None:
        return {}
    try:
        return nodes_of(text, module, path.name == "__init__.py")
    except (SyntaxError, ValueError):
        return {}  # all names of the other side differ


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """git, in English, about the checkout that ``folder`` is in.

    A hook, and a user with several repositories, set variables that name another one.
    """
    plain = {name: value for name, value in os.environ.items() if name not in OTHER_CHECKOUT}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=plain | {"LC_ALL": "C"},
        capture_output=True,
        check=False,
    )


def git(folder: Path, *arguments: str) -> bytes | None:
    """What git says about the checkout that ``folder`` is in; None if it refuses."""
    try:
        done = run_git(folder, *arguments)
    except FileNotFoundError as error:
        raise MisuseError(f"changed: {error.strerror}: git; install git, or name parts") from error
    return done.stdout if done.returncode == 0 else None
