"""The explorer: every schedule of a small program, or as many as the budget allows.

``from stress import Program, explore, replay``; docs/explorer.md. The files::

    explore   the entry; auto, workers       strategies/  which actor makes the next step
    searches  a strategy with its budget     dpor/        one schedule of each class
    result    verdicts                       witness      a failing trace, shrunk to directives
    token     a schedule in one line         report/      ... run again, in words
    address   where a program is found       replay       a token, run again

The machine that it schedules is in stress/machine: program, block, schedule, access, races.
"""
