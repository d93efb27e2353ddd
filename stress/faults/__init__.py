"""Faults: what is done to a run on purpose, and what must hold all the same (docs/faults.md).

- ``allocation``, ``operations``, ``sweep``: allocations that fail, for every caller one by one
- ``grammar``: ``--faults kill:every=100ms,stop:every=1s,for=300ms,...``

Nothing here knows a process: the faults of a run are in stress/run/live_faults.py.
"""
