"""``Places``: where the metrics of a command go."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Places:
    """``port`` 0: a free one; None: no server. ``file``: None for no file."""

    port: int | None = None
    address: str = LOOPBACK
    file: str | None = None

    @property
    def any(self) -> bool:
        """Whether metrics are wanted at all."""
        return self.port is not None or self.file is not None
