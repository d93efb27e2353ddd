"""Mutants of the two locks, and of the order in which memory is written and read."""

from __future__ import annotations

from stress.mutants.mutant import JITTER, Mutant

LOCK = "shmalloc/kernels/lock.py"
EVERY = ("lock", "buddy-alloc-alloc")
X86 = "x86 keeps stores in order, and the compiler moves none across: the machine code is the same"
NEVER_ASKED = "no process of a run on two cores sleeps often enough to ask for the lock"

MUTANTS = (
    Mutant(
        "lock-looks-then-stores", LOCK,
        (("    me = owner_word(mem, cpu)\n    if not cas(mem, at, 0, me):\n"
          "        lock_slow(mem, at, cpu, me)\n",
          "    me = owner_word(mem, cpu)\n    if load_relaxed(mem, at) == 0:\n"
          "        store(mem, at, me)\n    else:\n        lock_slow(mem, at, cpu, me)\n"),),
        "the compare-exchange of a lock made a look and a store: two find it free, both are in",
        "X_PAYLOAD", EVERY, ("churn", "orders"),
    ),
    Mutant(
        "spinlock-looks-then-stores", LOCK,
        (("    return cas(mem, at, 0, owner_word(mem, cpu))\n",
          "    if load_relaxed(mem, at) != 0:\n        return False\n"
          "    store(mem, at, owner_word(mem, cpu))\n    return True\n"),),
        "the same for the per-CPU lock, where the fence of the compare-exchange is missing, too",
        "X_PAYLOAD", ("lock-try-try", "lock-try-spin-2", "pcp-drain-alloc"),
        ("oom-edge", "hotplug"),
    ),
    Mutant(
        "unspin-relaxed", LOCK,
        (("    store,\n    wait,\n", "    store,\n    store_relaxed,\n    wait,\n"),
         ("    store(mem, at, 0)\n", "    store_relaxed(mem, at, 0)\n")),
        "the release of a per-CPU lock made a relaxed store: what was done under it may become"
        " visible after it",
        "X_PAYLOAD", ("lock-try-spin-2", "pcp-drain-free"), unseen=X86,
    ),
    Mutant(
        "drain-acquires-nothing", "shmalloc/kernels/pcp.py",
        (("    while not cas(mem, at, 0, owner_word(mem, cpu)):\n"
          "        if load_relaxed(mem, at) == c.LOCK_OFFLINE:\n            return False\n"
          "        notice(mem, at)\n        give_way(mem)  # its owner may be preempted: there are"
          " more workers than cores\n    return True\n",
          "    while load_relaxed(mem, at) != 0:\n"
          "        if load_relaxed(mem, at) == c.LOCK_OFFLINE:\n            return False\n"
          "        give_way(mem)\n    return True\n"),),
        "a drainer waits until the lock is free and goes in without taking it, and without the"
        " acquire that orders what it reads behind the owner's release",
        "I_PCP_COUNT", ("pcp-drain-alloc", "lock-drain-unplug-3"), ("oom-edge", "hotplug"),
    ),
    Mutant(
        "sleeper-takes-without-flag", LOCK,
        (("            if cas(mem, at, old, me | c.LOCK_CONTENDED):\n",
          "            if cas(mem, at, old, me):\n"),),
        "a sleeper that was woken takes the lock and forgets that there may be another sleeper,"
        " who is never woken",
        "I_PROGRESS", ("lock-sleep-3",), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "wake-before-unlock", LOCK,
        (("    old = load_relaxed(mem, at)\n    while not cas(",
          "    old = load_relaxed(mem, at)\n    if old & c.LOCK_CONTENDED != 0:\n"
          "        wake(mem, at, 1)\n    while not cas("),
         ("        old = load_relaxed(mem, at)\n    if old & c.LOCK_CONTENDED != 0:\n"
          "        wake(mem, at, 1)\n",
          "        old = load_relaxed(mem, at)\n")),
        "unlock wakes first and lets go afterwards: a sleeper on its way to bed misses the only"
        " wake, or is woken, finds the lock held and sleeps again",
        "I_PROGRESS", ("lock-sleep-2", "lock"), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "unlock-in-two-steps", LOCK,
        (("    while not cas(mem, at, old, released_word(old)):\n"
          "        old = load_relaxed(mem, at)\n",
          "    store(mem, at, released_word(old))\n"),),
        "the swap of unlock made a load and a store: the flag that is set between them is lost"
        " with its sleeper",
        "I_PROGRESS", ("lock-sleep-2", "lock"), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "flag-stored", LOCK,
        (("            if old & flags == flags or cas(mem, at, old, old | flags):\n",
          "            store(mem, at, old | flags)\n            if True:\n"),),
        "the flag is stored and not swapped in: if the owner let go meanwhile the lock belongs to"
        " no one for ever",
        "I_PROGRESS", ("lock-sleep-2", "lock"), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "sleep-on-new-value", LOCK,
        (("                wait(mem, at, old | flags)\n",
          "                wait(mem, at, load_relaxed(mem, at))\n"),),
        "the sleeper reads the word once more to sleep on it: free by then, it sleeps on a free"
        " lock",
        "I_PROGRESS", ("lock-sleep-2", "lock"),
        unseen="the next contended release wakes the sleeper: a run hides it in a delay",
        precedent="S2 compared against a value that was read again",
    ),
    Mutant(
        "unlock-wakes-none", LOCK,
        (("    if old & c.LOCK_CONTENDED != 0:\n        wake(mem, at, 1)\n", ""),),
        "no sleeper is woken at all",
        "I_PROGRESS", ("lock-sleep-2", "lock"), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "handoff-behind-the-release", LOCK,
        (("    while not cas(mem, at, old, released_word(old)):\n"
          "        old = load_relaxed(mem, at)\n",
          "    while not cas(mem, at, old, 0):\n        old = load_relaxed(mem, at)\n"
          "    if old & c.LOCK_HANDOFF != 0:\n        cas(mem, at, 0, c.LOCK_KEPT)\n"),),
        "docs/bugs.md 19, our own: the lock is kept for a sleeper in a second step. He came and"
        " went in between, and the lock stays reserved: the next process sleeps for ever",
        "I_PROGRESS", ("lock-sleep-kept-2", "lock-sleep-kept-3"), unseen=NEVER_ASKED,
    ),
    Mutant(
        "handoff-to-a-dead-sleeper", LOCK,
        (("        if old == 0 or (old == c.LOCK_KEPT and sleeps > 0):\n",
          "        if old == 0:\n"),),
        "the lock is kept for a sleeper who does not know that it is kept for him",
        "I_PROGRESS", ("lock-sleep-twice-2", "lock-sleep-kept-2"), unseen=NEVER_ASKED,
    ),
    Mutant(
        "exact-free-in-two-steps", "shmalloc/kernels/objects.py",
        (("    if exact:\n        return cas(mem, at, old, after)\n", ""),),
        "the free of CF_EXACT made a look and a store: of two frees at once both get through",
        "M_OBJECT_FREE", ("slab-free-free-same",),
        unseen="workloads never free one object from two processes at once",
        precedent="S16 double free",
    ),
    Mutant(
        "array-stack-without-version", "shmalloc/kernels/array_table.py",
        (("        if cas2(mem, c.H_ARRAYS, head, version, following, version + 1):\n",
          "        if cas2(mem, c.H_ARRAYS, head, version, following, version):\n"),
         ("        if cas2(mem, c.H_ARRAYS, head, version, first, version + 1):\n",
          "        if cas2(mem, c.H_ARRAYS, head, version, first, version):\n")),
        "the stack of free entries without its version: entry A taken, B taken, A put back between"
        " our read and our swap, and B is on the stack again while it is in use",
        "X_DOUBLE_ALLOC", ("arrays-take-return",), ("arrays",),
        precedent="S1 ABA on the freelist without a new transaction id", commit="fd4d9c7d0c71",
    ),
    Mutant(
        "array-published-early", "shmalloc/kernels/array_table.py",
        (("    store(mem, entry + c.AR_COUNT, (generation << c.AR_GENERATION_SHIFT) | 1)"
          "  # publishes the array\n",
          "    store(mem, entry + c.AR_COUNT, (generation << c.AR_GENERATION_SHIFT) | 1)\n"
          "    store_relaxed(mem, entry + c.AR_DATA, data)\n"),
         ("    store_relaxed(mem, entry + c.AR_DATA, data)\n"
          "    store_relaxed(mem, entry + c.AR_HOW, how)\n",
          "    store_relaxed(mem, entry + c.AR_HOW, how)\n")),
        "the count of an array is published before its data word: who opens it finds the data of"
        " the entry's last life, or its link on the stack",
        "X_PAYLOAD", ("arrays-open-read",), ("arrays",), JITTER,
        precedent="B11 published before it is initialised", commit="b9e20f0da1f5",
    ),
    Mutant(
        "array-dropped-in-two-steps", "shmalloc/kernels/array_table.py",
        (("        if cas(mem, entry + c.AR_COUNT, old, old - 1):"
          "  # at 0 it cannot be opened any more\n            return references - 1\n",
          "        store(mem, entry + c.AR_COUNT, old - 1)\n        return references - 1\n"),),
        "a reference is dropped by load and store: of two that are dropped at once one is lost,"
        " and the array with it",
        "X_PAYLOAD", ("arrays-drop-drop",), ("arrays",),
    ),
)  # fmt: skip
