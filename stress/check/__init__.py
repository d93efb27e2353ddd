"""``shmstress check``: what did I break? Choose programs, explore them, stop at the first failure.

::

    source   a module's top level as nodes: what each is and which names it uses
    changes  what differs between the working tree and a revision of git
    select   the programs and crash cases that a part, a file or a change means, in which order
    unprepared  a program that a broken kernel does not even let begin
    loop     jobs in turns until one fails, all are done, or the time is over
    verdict  what that came to, in words and as data

The loop serves the mutants (mutants/hunt.py) and benchmarks/programs.py, too.
"""
