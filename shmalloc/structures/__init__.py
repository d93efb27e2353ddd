"""Structures in a segment: what several processes use at once, and what a death leaves whole.

A structure has an entry in the segment, and blocks of pages if it needs them (kernels/entries.py).
Every change of one is a kernel. docs/structures.md says what the death of a process does to each.
"""
