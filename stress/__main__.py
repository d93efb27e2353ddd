"""``python -m stress``: the same as the ``shmstress`` command.

The import sits under the guard because worker processes import this module again as their main
module, and they need no command line.
"""

if __name__ == "__main__":
    from stress.cli import main

    main()
