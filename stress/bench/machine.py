"""The machine that a bench ran on: what its figures are of."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from shmalloc.sizes import format_bytes
from stress.run.workers import cores

CPUINFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
BUSY = 0.5  # load of a core from which on figures suffer


@dataclass(frozen=True)
class Machine:
    """``load``: the mean number of processes that ran or waited in the last minute, at the start.
    ``governor``: of the frequency of the cores; "" where the system does not say."""

    date: str
    processor: str
    virtual: bool
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    governor: str
    load: float

    @classmethod
    def here(cls) -> Machine:
        """This machine, now."""
        text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
        return cls(
            time.strftime("%Y-%m-%d"),
            processor_in(text) or platform.machine(),
            "hypervisor" in text,
            len(cores()),
            psutil.virtual_memory().total,
            platform.release(),
            platform.python_version(),
            GOVERNOR.read_text().strip() if GOVERNOR.exists() else "",
            round(os.getloadavg()[0], 2),
        )

    def __str__(self) -> str:
        """``AMD EPYC (virtual), 2 cores, 24 GiB, Linux 6.1, Python 3.11.7, load 0.1``."""
        where = " (virtual)" if self.virtual else ""
        governor = f", governor {self.governor}" if self.governor else ""
        return (
            f"{self.processor}{where}, {self.cores} cores{governor}, "
            f"{format_bytes(self.memory_bytes)}, Linux {self.kernel.split('-')[0]}, "
            f"Python {self.python}, load {self.load:g}, {self.date}"
        )

    @property
    def busy(self) -> bool:
        """Whether other work ran when it began."""
        return self.load > self.cores * BUSY

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def processor_in(cpuinfo: str) -> str:
    """The name of the processor in the text of /proc/cpuinfo; "" if it has none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return ""
