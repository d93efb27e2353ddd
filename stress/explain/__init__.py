"""From a failure of real processes to a schedule of the explorer: ``shmstress explain``.

``evidence`` is what a failed run left: the violation, the operations in flight, the world. ``draw``
makes small programs of it, whose operations are data (``operations``, ``worlds``); ``search`` looks
for a schedule of one that breaks the same invariant, and ``reduce`` cuts the program down.
pytest runs, ``sources`` finds the evidence.
"""

from __future__ import annotations

from stress.explain.result import explain_result as explain_result
from stress.explain.steps import explained_steps as explained_steps
from stress.explain.worlds import explained as explained
