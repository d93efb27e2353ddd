"""What runs inside of a copy: the token of a mutant, made to happen in real processes.

``python -m stress.mutants.made_real TOKEN`` prints one JSON document. The kernels are the copy's,
mutant and all, compiled over gates.
"""

from __future__ import annotations

import json
import sys

from shmalloc.errors import MisuseError
from stress.explorer.targets import load_program
from stress.explorer.token import Token
from stress.gates.verdict import realize


def document(token: str) -> dict[str, object]:
    """What the command reads."""
    try:
        made = realize(load_program(Token.parse(token).target), token)
    except MisuseError as error:
        return {"happened": False, "seconds": 0.0, "gates": 0, "note": str(error)}
    return {
        "happened": made.happened,
        "seconds": made.seconds,
        "gates": len(made.plan.gates),
        "note": made.note or made.text,
    }


def main(token: str) -> None:
    print(json.dumps(document(token)))


if __name__ == "__main__":
    main(*sys.argv[1:])
