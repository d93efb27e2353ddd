"""What the faults of a run did, and what became of it: counted while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from shmalloc.sizes import format_bytes
from stress.faults.grammar import Fault, Hotplug, Kill, Pressure, Report, Stop
from stress.quantities import counted


@dataclass
class FaultTally:
    """Counts of one run. ``inside``: in the middle of a lock or of a two-step update."""

    kills: dict[str, int] = field(default_factory=lambda: {"random": 0, "fuse": 0})
    inside: dict[str, int] = field(default_factory=lambda: {"random": 0, "fuse": 0})
    recovery_s: list[float] = field(default_factory=list)
    vacancy_s: list[float] = field(default_factory=list)  # from a death to the next at work
    reaped_blocks: int = 0
    reaped_pages: int = 0
    reaped_objects: int = 0
    orphans: int = 0
    stops: int = 0
    stops_inside: int = 0
    pressure_waves: int = 0
    pressure_peak_pages: int = 0
    hotplug_changes: int = 0
    reports: int = 0  # pageblocks of which something was given back to the system
    reported_bytes: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "kills": dict(self.kills),
            "kills_inside": dict(self.inside),
            "recoveries": len(self.recovery_s),
            "recovery_seconds": _spread(self.recovery_s),
            "vacancy_seconds": _spread(self.vacancy_s),
            "reaped": {
                "blocks": self.reaped_blocks,
                "pages": self.reaped_pages,
                "objects": self.reaped_objects,
                "orphans": self.orphans,
            },
            "stops": self.stops,
            "stops_inside": self.stops_inside,
            "pressure": {"waves": self.pressure_waves, "peak_pages": self.pressure_peak_pages},
            "hotplug_changes": self.hotplug_changes,
            "reported": {"pageblocks": self.reports, "bytes": self.reported_bytes},
        }

    def marks(self, faults: tuple[Fault, ...]) -> dict[str, int]:
        """What has to have happened at least once, or the run tested nothing."""
        wanted: dict[str, int] = {}
        for fault in faults:
            match fault:
                case Kill(fuse=None):
                    wanted["killed"] = self.kills["random"]
                case Kill():
                    wanted["killed-by-fuse"] = self.kills["fuse"]
                case Stop():
                    wanted["stopped"] = self.stops
                case Pressure():
                    wanted["pressure"] = self.pressure_waves
                case Hotplug():
                    wanted["unplugged"] = self.hotplug_changes
                case Report():
                    wanted["reported"] = self.reports
        return wanted

    def lines(self, faults: tuple[Fault, ...]) -> list[str]:
        """The tally as text, for the faults that the run had."""
        kinds = {type(fault) for fault in faults}
        found = []
        if Kill in kinds:
            found += self._kill_lines()
        if Stop in kinds:
            found.append(f"stops: {self.stops:,}, {self.stops_inside:,} of them with a lock held")
        if Pressure in kinds:
            peak = f"peak {counted(self.pressure_peak_pages, 'page')}"
            found.append(f"pressure: {counted(self.pressure_waves, 'wave')}, {peak}")
        if Hotplug in kinds:
            found.append(f"hotplug: {self.hotplug_changes:,} slots unplugged or plugged in")
        if Report in kinds:
            given = format_bytes(self.reported_bytes)
            blocks = counted(self.reports, "pageblock")
            found.append(f"reporting: {given} of {blocks} given back to the system")
        return found

    def _kill_lines(self) -> list[str]:
        total, inside = sum(self.kills.values()), sum(self.inside.values())
        by = ", ".join(
            f"{count:,} {'at random' if how == 'random' else 'by fuse'}"
            f" ({self.inside[how]:,} inside)"
            for how, count in self.kills.items()
        )
        lines = [f"kills: {total:,}, {inside:,} inside a lock or a two-step update: {by}"]
        if self.recovery_s:
            lines.append(
                f"recoveries: {len(self.recovery_s):,}, {_milliseconds(self.recovery_s)};"
                f" slot at work again {_milliseconds(self.vacancy_s)} after a death"
            )
        lines.append(
            f"reaped: {counted(self.reaped_blocks, 'block')}"
            f" ({counted(self.reaped_pages, 'page')}), {counted(self.reaped_objects, 'object')};"
            f" {self.orphans:,} orphaned caches, ranges and slots"
        )
        return lines


def _milliseconds(seconds: list[float]) -> str:
    if not seconds:
        return "never"
    return f"median {median(seconds) * 1e3:.1f} ms, longest {max(seconds) * 1e3:.1f} ms"


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {"median": round(median(seconds), 6), "max": round(max(seconds), 6)}
