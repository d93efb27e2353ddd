"""The scheduled machine: a program on virtual CPUs, one access at a time.

A ``Program`` (program.py) is laid out for an engine (engines.py): native, where each CPU is a
fiber, or interpreted, where it is a greenlet. Both run one scheduler (schedule.py) over one control
block (block.py, block_layout.py), so they make the same decisions in the same order.
"""
