"""One benchmark for the allocator, its parts and its peers: ``shmstress bench``.

::

    catalogue   the patterns, by name: what each does, where it is timed from, its goals
    page_loops, object_loops, ring_loops    our timed loops: kernels, thousands of operations a call
    peers, peer_loops, boost, llfree        other allocators, in loops with the same operations
    python_loops                            what users of Python call, ours and Python's own
    jobs, runners                           one pattern, one allocator, so many workers; how it runs
    control, worker, team                   processes that are told by shared words what to run
    rounds, figures                         slices in turn; medians, quartiles, what was dropped
    goals, machine, report, plot, page      what was to be reached, where, and how it is shown
    growth, recovery_times, audit_times     how cost grows with memory, workers, fragmentation

A figure is the median over slices of 1-2 ms. Every row has its slice in every round, so that all
rows see the same machine. A slice in which the system took the core away from a worker is dropped
and counted. Each slice begins with F on the same core: the cost of two uncontended two-word swaps.
"""
