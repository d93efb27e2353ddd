"""Schedules of the explorer, made to happen in real processes: ``shmstress replay TOKEN --native``.

Each CPU of the program is a process over one shared memory, which runs the compiled kernel and is
held at the places where the schedule leaves it. ``plan`` says where these are, ``state`` and
``native`` hold a process there, ``team`` has the processes, ``coordinator`` lets them go on in the
order of the plan, ``verdict`` looks what came of it, ``wild`` tries without any gate.
"""
