"""Which rounds saw which finding: a row of ``sightings`` for each pair, whatever found it.

``findings.count`` is the number of these rows, with those of rounds that ``--keep`` has removed.
Several writers may see one finding in turns; each of their rounds counts once. ``Records`` calls
this within a transaction.
"""

from __future__ import annotations

import time

from stress.records.transactions import Transactions


def see(file: Transactions, round_id: int, fingerprint: str, times: int) -> bool:
    """A round reported a known finding so often; False if it is not known yet.

    One that was fixed is open again.
    """
    known = file.execute(
        "UPDATE findings SET last_seen_s = :now, last_round_id = :round,"
        " status = CASE status WHEN 'fixed' THEN 'open' ELSE status END"
        " WHERE fingerprint = :name",
        {"now": time.time(), "round": round_id, "name": fingerprint},
    )
    if known.rowcount == 1:
        count(file, round_id, fingerprint, times)
    return known.rowcount == 1


def count(file: Transactions, round_id: int, fingerprint: str, times: int) -> None:
    """Count the round, if it is new, and the reports."""
    pair = (round_id, fingerprint)
    new = file.execute("INSERT OR IGNORE INTO sightings VALUES (?, ?, 0)", pair)
    file.execute(
        "UPDATE findings SET count = count + ? WHERE fingerprint = ?", (new.rowcount, fingerprint)
    )
    query = "UPDATE sightings SET count = count + ? WHERE round_id = ? AND fingerprint = ?"
    file.execute(query, (times, *pair))
