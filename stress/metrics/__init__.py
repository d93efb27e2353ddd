"""What a run or a soak does, as metrics of Prometheus: over HTTP, and as a file of text.

::

    state.py      what is exported: the last ``Moment``, and the sums of the rounds before it
    families.py   the metrics by name, with their help, unit and labels
    server.py     HTTP on one address       textfile.py   the file, replaced as a whole
    exporter.py   a receiver of a run's progress that owns both
    attach.py     the same for a command, from its options    places.py   where metrics go

A command attaches it like this; what it does not call for metrics it does anyway::

    @metrics()                                      # stress.options: --metrics-port and so on
    def command(metrics: Places, ...):
        with attached(metrics, "run", told) as exporter:    # None if no metrics are wanted
            receivers = [view, exporter] if exporter else [view]
            run(progress=Several(receivers))                # begin, moment, last
            end_of(exporter, result)

A soak calls ``begin_round(number, kind, settings)`` before each round, ``moment`` with what it
records, and ``end_round`` (stress/soak/measured.py); its rounds run in other processes. Counters
never fall from round to round. ``serve()`` answers scrapes from then on: call it when nothing forks
any more, or only through a fork server; ``begin`` does.

Labels are names of workloads, operations, events, states, invariants, verdicts, CPU slots and roles
of processes: no seed, no pid, no round, so that a database of metrics does not grow with the time.
"""
