"""``shmstress soak``: hours of rounds, each drawn from a seed, recorded, repeated and cut down.

::

    spec        everything that decides a soak, as a command line
    features    what a round of real processes may switch on: workloads, geometry, faults, delays
    draw        the rounds of a soak: kind and command line of each, from the seed of the soak
    line        a command line of shmstress as data
    perform     what a round does, inside of a process of its own (__main__)
    child       that process, as the soak sees it
    messages    what it tells the soak
    again       a failing round, repeated: how often does it fail?
    reduce      the same round with less and less in it, as long as it fails
    hunt        the loop: draw, perform, record, repeat, reduce
    growth      memory and files of the soak's own process over its rounds
    summary     what a soak says at its end
    live        what it shows meanwhile

A round runs in a child process, so that nothing of it stays: no compiled program, no fork server,
no crash. The soak's process is the only writer of the database.
"""
