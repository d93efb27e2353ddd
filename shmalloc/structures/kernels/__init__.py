"""The kernels of the structures, one file for each kind. They are part of a segment's digest."""
