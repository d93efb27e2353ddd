"""Single-token mutants that nothing can tell from the original, and the arguments.

An argument is about a function as it was then: its digest stands beside it (single_token.py), and
when the function changes the argument is void until it is looked at again.
"""

from __future__ import annotations

from stress.mutants.single_token import TokenMutant

ARGUMENTS: dict[tuple[str, str], str] = {}  # (name of the mutant, digest) -> why


def argument_for(mutant: TokenMutant) -> str | None:
    return ARGUMENTS.get((mutant.name, mutant.digest))
