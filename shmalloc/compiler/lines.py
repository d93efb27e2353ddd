"""Line tables: which instruction came from which line of which kernel, as LLVM metadata.

What debuggers and profilers need and no more: a compile unit per file, a subprogram per kernel, and
a location for each of its lines. Types and variables are left out: kernels have only integers.
"""

from __future__ import annotations

import os

FIRST = 10  # numbers below are the module's own


class Lines:
    """The metadata of one module."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._files: dict[str, tuple[int, int]] = {}
        self._places: dict[tuple[int, int], int] = {}
        self._type = self._add("!DISubroutineType(types: !{})")
        self._units: list[int] = []

    def _add(self, row: str) -> int:
        self._rows.append(row)
        return FIRST + len(self._rows) - 1

    def function(self, name: str, file: str, line: int) -> int:
        """The subprogram of a kernel: its number."""
        unit, home = self._file(file)
        text = escaped(name)
        return self._add(
            f'distinct !DISubprogram(name: "{text}", linkageName: "{text}", scope:'
            f" !{home}, file: !{home}, line: {line}, type: !{self._type}, spFlags:"
            f" DISPFlagDefinition | DISPFlagOptimized, unit: !{unit})"
        )

    def place(self, scope: int, line: int) -> int:
        """The location of a line of a subprogram: its number."""
        number = self._places.get((scope, line))
        if number is None:
            number = self._add(f"!DILocation(line: {line}, column: 1, scope: !{scope})")
            self._places[scope, line] = number
        return number

    def _file(self, path: str) -> tuple[int, int]:
        if path not in self._files:
            folder, name = os.path.split(path)
            home = self._add(
                f'!DIFile(filename: "{escaped(name)}", directory: "{escaped(folder)}")'
            )
            unit = self._add(
                f"distinct !DICompileUnit(language: DW_LANG_Python, file: !{home}, producer:"
                ' "shmalloc", isOptimized: true, runtimeVersion: 0, emissionKind: LineTablesOnly,'
                " nameTableKind: None)"
            )
            self._units.append(unit)
            self._files[path] = unit, home
        return self._files[path]

    def text(self) -> str:
        """All of it."""
        rows = [f"!{FIRST + k} = {row}" for k, row in enumerate(self._rows)]
        version = FIRST + len(rows)
        dwarf = version + 1
        units = ", ".join(f"!{unit}" for unit in self._units)
        return "\n".join(
            [
                *rows,
                f'!{version} = !{{i32 2, !"Debug Info Version", i32 3}}',
                f'!{dwarf} = !{{i32 2, !"Dwarf Version", i32 4}}',
                f"!llvm.module.flags = !{{!{version}, !{dwarf}}}",
                f"!llvm.dbg.cu = !{{{units}}}",
            ]
        )


def escaped(text: str) -> str:
    """``text`` between the quotes of LLVM IR."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"
        for byte in text.encode(errors="surrogateescape")
    )
