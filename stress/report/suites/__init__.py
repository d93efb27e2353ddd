"""What each command found, as a ``Suite``: one file for each command, named like it."""
