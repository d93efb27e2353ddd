"""Litmus tests on the real machine: small shapes of code, played millions of times a second.

::

    shapes.py      what each process does to one cell      -- one source for both sides
    cells.py       compiled loops over many cells           native: real processes
    catalogue.py   the tests by name; each is also a Program for the explorer
    answers.py     which outcomes sc and tso allow: explored, not written down
    arena.py       the shared memory of the processes: a file without a name
    team.py        the processes
    grading.py     counted outcomes, graded by the explorer's answer
    runner.py      a test, from seed to table
    report.py      text and JSON
"""
