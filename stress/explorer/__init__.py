"""The explorer: every schedule of a small program, or as many as the budget allows.

``from stress import Program, explore, replay``; docs/explorer.md. Which file is what::

    program   what a user hands in           strategies/  which actor makes the next step
    explore   the entry; auto, workers       dpor/        one schedule of each class
    searches  a strategy with its budget     witness      a failing trace, shrunk to directives
    result    verdicts                       explain      ... run again, in words
    failure   what reports read              report_*     text, page, JSON
    token     a schedule in one line         replay       ... and back

The machine that is scheduled is below, in shmalloc/engine: block, schedule, access, buffers, races.
"""
