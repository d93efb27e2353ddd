"""Which commit brought a failure: a token is judged at commits that git chooses (walk.py)."""
