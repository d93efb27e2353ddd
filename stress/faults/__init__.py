"""Faults: deliberate disturbances of a run, and what must hold in spite of them (docs/faults.md).

- ``allocation``, ``operations``, ``sweep``: allocations that fail, for every caller one by one
- ``grammar``: ``--faults kill:every=100ms,stop:every=1s,for=300ms,...``

This package knows no processes: the faults of a run are in stress/run/live_faults.py.
"""
