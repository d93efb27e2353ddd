"""The metrics as a file of text, for the textfile collector of node_exporter.

The file is replaced as a whole by a rename, so a reader never sees half of it, and a writer that is
killed leaves the last one. What is left of a killed writer is a file of the same name with its pid
at the end; node_exporter reads only names that end in ``.prom``.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile

from shmalloc.errors import MisuseError
from stress.report.places import require_place

SUFFIX = ".prom"


def require_textfile(path: str | None) -> None:
    """Raises ``MisuseError`` for a file that cannot be written, or that no collector would read."""
    if path is None:
        return
    if not path.endswith(SUFFIX):
        raise MisuseError(
            f"metrics-file: {path}; node_exporter reads only names that end in {SUFFIX}"
        )
    require_place("metrics-file", path)
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK):  # the file is replaced: its folder is written to
        raise MisuseError(f"metrics-file: {folder} cannot be written; name a file elsewhere")


def write_textfile(path: str, registry: CollectorRegistry) -> None:
    """Replace the file. Raises ``OSError``, and leaves the last one then."""
    write_to_textfile(path, registry)
