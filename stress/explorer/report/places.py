"""Places in the source, as text: ``file.py:12``, and the line itself.

Paths and lines come from others' files: control characters, which a terminal would obey, are
written as escapes.
"""

from __future__ import annotations

import linecache
from pathlib import Path

from shmalloc.compiler.directory import shown
from stress.explorer.loading import here
from stress.machine.site import Site


def source_at(site: Site | None) -> str:
    """The line of text at ``site``; empty if there is no such file or line."""
    return shown(linecache.getline(site.file, site.line).strip().expandtabs()) if site else ""


def place_in_file(site: Site | None) -> str:
    """``file.py:12``: enough to recognise a place."""
    return f"{shown(Path(site.file).name)}:{site.line}" if site else ""


def path_at(site: Site) -> str:
    """``dir/file.py:12``: enough to open it from here."""
    path = Path(site.file)
    for folder in here():
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
    return f"{shown(str(path))}:{site.line}"
