"""Every number of a report, read straight from SQLite: the oracle of the page.

Shares no code with the report: its own SQL, its own rates, its own percentiles. ``value_of`` takes
the key that a number carries in the page.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

WHICH = {"least": min, "greatest": max, "last": lambda values: values[-1]}
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Numbers:
    """The numbers of one run."""

    def __init__(self, path, run: int) -> None:
        self._connection = sqlite3.connect(path)
        self.run = run
        self.rounds = [
            one for (one,) in self._all("SELECT id FROM rounds WHERE run_id = ? ORDER BY id", run)
        ]

    def value_of(self, key: str) -> float:
        family, _, rest = key.partition("/")
        parts = [rest] if family == "marks" else rest.rsplit("/", 1)
        return getattr(self, "_" + family.replace("-", "_"))(*parts)

    def _all(self, query: str, *values: object) -> list[tuple]:
        return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> float:
        return self._all(query, *values)[0][0]

    def _of_rounds(self, query: str) -> list[tuple]:
        """Rows of all rounds of the run, in order; ``query`` has one place for the round."""
        return [row for one in self.rounds for row in self._all(query, one)]

    # --- families of keys ---
    def _runs(self, run: str, column: str) -> float:
        return self._one(
            {
                "wall_s": "SELECT ended_s - started_s FROM runs WHERE id = ?",
                "worked_s": "SELECT json_extract(summary, '$.clock_s') FROM runs WHERE id = ?",
                "rounds": "SELECT count(*) FROM rounds WHERE run_id = ?",
                "operations": "SELECT sum(operations) FROM rounds WHERE run_id = ?",
                "samples": "SELECT count(*) FROM samples JOIN rounds ON rounds.id = round_id"
                " WHERE run_id = ?",
            }.get(column, f"SELECT {column} FROM runs WHERE id = ?"),
            run,
        )

    def _rounds(self, round_id: str, column: str) -> float:
        return self._one(f"SELECT {column} FROM rounds WHERE id = ?", round_id)

    def _findings(self, fingerprint: str, column: str) -> float:
        return self._one(f"SELECT {column} FROM findings WHERE fingerprint = ?", fingerprint)

    def _rate(self, name: str, which: str) -> float:
        rates = []
        for one in self.rounds:
            before = None
            for at_s, accounts in self._all(
                "SELECT at_s, accounts FROM samples WHERE round_id = ? ORDER BY id", one
            ):
                done = next(a["operations"] for a in json.loads(accounts) if a["name"] == name)
                if before is not None and at_s - before[0] < 0.5:
                    continue
                if before is not None:
                    rates.append((done - before[1]) / (at_s - before[0]))
                before = (at_s, done)
        return WHICH[which](rates)

    def _memory(self, role: str, which: str) -> float:
        return self._of_process("private_bytes", role, which)

    def _descriptors(self, role: str, which: str) -> float:
        return self._of_process("fds", role, which)

    def _of_process(self, column: str, role: str, which: str) -> float:
        query = f"SELECT role, {column} FROM processes WHERE round_id = ? AND rss_bytes ORDER BY id"
        return WHICH[which]([value for own, value in self._of_rounds(query) if own == role])

    def _fragmentation(self, name: str, which: str) -> float:
        query = "SELECT fragmentation FROM samples WHERE round_id = ? ORDER BY id"
        return WHICH[which]([value for (value,) in self._of_rounds(query)])

    def _free_blocks(self, order: str, which: str) -> float:
        query = "SELECT free_by_order FROM samples WHERE round_id = ? ORDER BY id"
        return WHICH[which]([json.loads(text)[int(order)] for (text,) in self._of_rounds(query)])

    def _ram_map(self, code: str, which: str) -> float:
        query = "SELECT ram_map FROM samples WHERE round_id = ? AND ram_map NOT NULL ORDER BY id"
        return WHICH[which]([m.count(int(code)) / len(m) for (m,) in self._of_rounds(query)])

    def _marks(self, name: str) -> float:
        rows = self._of_rounds("SELECT marks FROM rounds WHERE id = ?")
        return sum(json.loads(text)[name] for (text,) in rows)

    def _features(self, name: str, which: str) -> float:
        rows = self._of_rounds("SELECT features, verdict FROM rounds WHERE id = ?")
        on = [(name in json.loads(text), verdict) for text, verdict in rows]
        return {
            "on": sum(1 for there, _ in on if there),
            "off": sum(1 for there, _ in on if not there),
            "failed": sum(1 for there, verdict in on if there and verdict == "FAILED"),
        }[which]

    def _latency(self, operation: str, which: str) -> float:
        query = "SELECT operation, histogram FROM latencies WHERE round_id = ?"
        own = [json.loads(text) for name, text in self._of_rounds(query) if name == operation]
        buckets = sorted(tuple(bucket) for one in own for bucket in one["buckets"])
        longest = max(one["max_ns"] for one in own)
        if which == "calls":
            return sum(count for _, count in buckets)
        return longest if which == "max" else _percentile(buckets, PERCENTILES[which], longest)


def _percentile(buckets: Sequence[tuple[int, int]], share: float, longest: int) -> int:
    """The longest duration of the first bucket up to which there are ``share`` of the calls.

    A bucket from ``low`` on has 1/32 of the width of its octave.
    """
    total, seen = sum(count for _, count in buckets), 0
    for low, count in buckets:
        seen += count
        if seen >= share * total:
            return min(low + (1 << max(0, low.bit_length() - 6)) - 1, longest)
    raise AssertionError("no bucket")
