"""Mutants of the structures: the robust lock, the queue, the pool, and the entries they lie in."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

ROBUST = "shmalloc/structures/kernels/robust.py"
RING = "shmalloc/structures/kernels/ring.py"
FRAMES = "shmalloc/structures/kernels/frames.py"
ENTRIES = "shmalloc/structures/kernels/entries.py"
NO_WORKLOAD = "no workload of a run uses structures; real kills do (tox -e structure-kills)"

MUTANTS = (
    Mutant(
        "death-not-told",
        ROBUST,
        (
            (
                "        store(mem, at + RL_STATUS, OWNER_DIED)\n    return robust_entered",
                "        pass\n    return robust_entered",
            ),
        ),
        "the next owner takes over from a dead one and is not told: it goes on with half a change",
        "X_PAYLOAD",
        ("structure-lock-inherit-2",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "heir-forgets-sleepers",
        ROBUST,
        (("            flag = c.LOCK_CONTENDED if slept > 0 else 0\n", "            flag = 0\n"),),
        "a sleeper that was woken takes the robust lock without the flag of the other sleeper",
        "I_PROGRESS",
        ("structure-lock-3",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "told-after-release",
        ROBUST,
        (
            (
                "        store(mem, at + RL_STATUS, UNUSABLE)\n    robust_let_go(mem, at)\n",
                "        robust_let_go(mem, at)\n        store(mem, at + RL_STATUS, UNUSABLE)\n"
                "        return 0\n    robust_let_go(mem, at)\n",
            ),
        ),
        "a lock is released before it is made unusable: the next owner comes in between, repairs,"
        " and finds its repair undone",
        "X_PAYLOAD",
        ("structure-lock-unusable-2",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "token-without-version",
        RING,
        (
            (
                "            waiting = is_use(state, token, QUEUED) or"
                " is_use(state, token, WRITING)\n",
                "            waiting = state & USE_MASK == QUEUED or state & USE_MASK == WRITING\n",
            ),
        ),
        "a consumer takes a buffer by its use alone: it may have gone round, and hold the message"
        " of another ticket, or half of one",
        "I_PROGRESS",
        ("structure-queue-stale-3",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "published-reclaimed",
        RING,
        (
            (
                "            if is_published(mem, q, token_of(state, number)):\n",
                "            if number < 0 and is_published(mem, q, token_of(state, number)):\n",
            ),
        ),
        "the buffer of a producer that died behind its publication is taken for garbage",
        "I_PROGRESS",
        ("structure-queue-published",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "queue-sleeps-unseen",
        RING,
        (
            (
                "    if token == c.E_AGAIN:\n        token, length = queue_take(mem, claim, q)\n"
                "    if token == c.E_AGAIN:\n        wait(mem, q + Q_READABLE, ASLEEP)\n",
                "    if token == c.E_AGAIN:\n        wait(mem, q + Q_READABLE, ASLEEP)\n",
            ),
        ),
        "a consumer says that it sleeps and sleeps, without another look at the queue",
        "I_PROGRESS",
        ("structure-queue-put-get",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "orphans-left",
        RING,
        (
            (
                "    token, length = queue_adopt(mem, claim, q)\n    if token == c.E_AGAIN:\n",
                "    token = c.E_AGAIN\n    length = 0\n    if token == c.E_AGAIN:\n",
            ),
        ),
        "a consumer does not look for the message that a dead one took: it waits for ever, and so"
        " does the producer that needs the place",
        "I_PROGRESS",
        ("structure-queue-orphan-put",),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "frame-given-unasked",
        FRAMES,
        (
            (
                "    if not cas2(mem, at, version, owner_word(mem, claim), version, 0):\n"
                "        return c.E_STATE\n",
                "    store(mem, at + FR_LIFE, 0 * owner_word(mem, claim) * version)\n",
            ),
        ),
        "a frame is given back without a look whose it is: its receiver holds what is free",
        "X_PAYLOAD",
        ("structure-pool-take", "structure-pool-pass"),
        unseen=NO_WORKLOAD,
    ),
    Mutant(
        "block-owned-unnamed",
        ENTRIES,
        (
            (
                "    store(mem, at + ST_PENDING, block)\n"
                "    own_block(mem, claim, pfn, tag_of(at))\n",
                "    own_block(mem, claim, pfn, tag_of(at))\n"
                "    store(mem, at + ST_PENDING, block)\n",
            ),
        ),
        "a block changes to its structure before the entry names it: a death in between loses it",
        "I_TEARDOWN",
        ("crash:structure-make-make",),
        unseen=NO_WORKLOAD,
    ),
)
