"""The database of runs: what was run, what was measured, what was found; SQLite, one file.

::

    schema        the tables, in SQL
    database      a file opened: a new one made, a foreign or damaged one refused in one line
    writers       which run has a living writer: a lock that the system frees with the process
    transactions  the one connection of a writer, and when it waits for the disk
    writer        Records: what a command writes, as it happens
    findings      the part of a writer that records what was found
    reader        Reader: what people and reports read, also while a writer writes
    rows          the rows that a reader gives
    receiver      samples of a run, one a second
    finding       a defect that was seen, whichever command saw it
    sightings     which rounds saw a finding
    work          what is run
    failures      findings of the explorer and of crash mode
    outcomes      what came of a round, with its findings in one transaction
    keep          old rounds thinned out, so that the file stays below a size
    fingerprint   one short text for one defect, whatever the seed, process or address

``Records`` and ``Reader`` are all that other packages need. Nothing here prints.
"""
