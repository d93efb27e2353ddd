"""Watching a segment that others work on: ``shmstress top``.

::

    reading.py    what a segment holds at a moment: ``Picture``, made by an ``Observer``
    locks.py, lists.py, slabs.py, memory_map.py: its parts    panels.py, frame.py: as text
    document.py   as JSON       segments.py   which segments there are      app.py   on a terminal

Nothing here writes to a segment, maps it, or takes a CPU slot (shmalloc/observed.py).
"""
