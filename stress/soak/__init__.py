"""``shmstress soak``: hours of rounds, each drawn from a seed, recorded, repeated and cut down.

::

    spec        everything that decides a soak, as a command line
    features    what a round of real processes may switch on (run_features has the list)
    draw        the rounds of a soak: kind and command line of each, from the seed of the soak
                (run_draw: those of real processes)
    perform     what a round does, inside of a process of its own (__main__): run_round has
                real processes, search_round explorations
    child       that process, as the soak sees it; performing passes on what it tells
    messages    what it tells the soak
    again       a failing round, repeated: how often does it fail?
    reduce      the same round with less and less in it, as long as it fails
    inquiry     what follows from a finding: repeated, reduced, tried again by the next soak
    hunt        the loop: draw, perform, record, look into what was found
    session     a soak in the database, begun or gone on with; standing: its counts so far
    stops       Ctrl-C and SIGTERM during a soak
    summary     what a soak says at its end
    view        what it shows meanwhile, as lines; live: drawn; measured: also as metrics

A round runs in a child process, so that nothing of it stays: no compiled program, no fork server,
no crash. The soak's process is the only writer of the database.
"""
