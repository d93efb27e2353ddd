"""The subcommands of ``shmstress``: one file each, its ``command`` is a click command.

A command returns its exit code. A file name ends in ``_`` if the name is a builtin.
"""
