"""Mutants of the two locks, and of the order in which memory is written and read."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

LOCK = "shmalloc/kernels/lock.py"
CPU_LOCK = "shmalloc/kernels/cpu_lock.py"
EVERY = ("lock", "buddy-alloc-alloc")
X86 = "x86 keeps stores in order, and the compiler moves none across: the machine code is the same"
ONLY_BY_A_DEATH = "who lives writes the record itself; only a death in between shows it"
NO_FORKS = "no process of a run forks"
PLAIN = ("--geometry", "biased-locks=off")
NO_GUESTS = "each worker of a run has a CPU of its own"
NEVER_STOPPED = "no process of a run is stopped for so long"
SELDOM_BENEATH = "a kernel seldom runs beneath another one: only where a process died"
NEVER_ASKED = "no process of a run on two cores sleeps often enough to ask for the lock"

MUTANTS = (
    Mutant(
        "lock-looks-then-stores", LOCK,
        (("    me = owner_word(mem, claim)\n    if not cas(mem, at, 0, me):\n"
          "        lock_slow(mem, at, claim, me, 0)\n",
          "    me = owner_word(mem, claim)\n    if load_relaxed(mem, at) == 0:\n"
          "        store_relaxed(mem, at, me)\n"
          "    else:\n        lock_slow(mem, at, claim, me, 0)\n"),),
        "the compare-exchange of a lock made a look and a store: two find it free, both are in",
        "X_PAYLOAD", EVERY, ("churn", "orders"),
    ),
    Mutant(
        "spinlock-looks-then-stores", CPU_LOCK,
        (("        return cas(mem, at, 0, owner_word(mem, claim))\n",
          "        if load_relaxed(mem, at) != 0:\n            return False\n"
          "        store(mem, at, owner_word(mem, claim))\n        return True\n"),),
        "the same for the per-CPU lock, where the fence of the compare-exchange is missing, too",
        "X_PAYLOAD", ("lock-try-try", "lock-try-spin-2", "pcp-drain-alloc"),
        ("oom-edge", "hotplug"), run_options=PLAIN,
    ),
    Mutant(
        "unspin-relaxed", CPU_LOCK,
        (("        store(mem, at, 0)\n    elif load_relaxed(mem, slot + c.C_HOLDS) == at:\n",
          "        store_relaxed(mem, at, 0)\n"
          "    elif load_relaxed(mem, slot + c.C_HOLDS) == at:\n"),),
        "the release of a per-CPU lock made a relaxed store: what was done under it may become"
        " visible after it",
        "X_PAYLOAD", ("lock-try-spin-2", "pcp-drain-free"), unseen=X86,
    ),
    Mutant(
        "drain-acquires-nothing", CPU_LOCK,
        (("        return TAKEN if cas(mem, at, 0, me) else HELD\n",
          "        return TAKEN if load_relaxed(mem, at) == 0 else HELD\n"),),
        "a drainer waits until the lock is free and goes in without taking it, and without the"
        " acquire that orders what it reads behind the owner's release",
        "I_PCP_COUNT", ("pcp-drain-alloc", "lock-drain-unplug-3"), ("oom-edge", "hotplug"),
        run_options=PLAIN,
    ),
    Mutant(
        "drain-without-heavy-fence", CPU_LOCK,
        (("        heavy_fence(mem, holds)\n        store_relaxed(", "        store_relaxed("),),
        "a drainer of a biased lock makes no heavy fence: the store of the claim of the CPU waits"
        " in its buffer, and neither sees the other",
        "X_PAYLOAD", ("lock-biased-drain", "lock-biased-beneath"), ("hotplug", "oom-edge"),
    ),
    Mutant(
        "drain-asks-before-it-takes", CPU_LOCK,
        (("    if host != claim:\n        holds = claim_at(mem, host) + c.C_HOLDS\n"
          "        heavy_fence(mem, holds)\n",
          "    if host != claim and load(mem, claim_at(mem, host) + c.C_HOLDS) != at:\n"
          "        store_relaxed(mem, at, owner_word(mem, claim))\n        return 1\n"
          "    if host != claim:\n        holds = claim_at(mem, host) + c.C_HOLDS\n"
          "        heavy_fence(mem, holds)\n"),),
        "a drainer of a biased lock that the claim of its CPU only tries to take goes in: that"
        " claim may have seen the lock open",
        "X_PAYLOAD", ("lock-biased-drain",), ("hotplug", "oom-edge"),
    ),
    Mutant(
        "biased-back-off-relaxed", CPU_LOCK,
        (("        return True\n    store(mem, holds, 0)\n    return False\n",
          "        return True\n    store_relaxed(mem, holds, 0)\n    return False\n"),),
        "the store by which the claim of the CPU gives up is relaxed: a drainer that reads it does"
        " not see what was done under the lock before",
        "X_PAYLOAD", ("lock-biased-drain", "pcp-orders+biased"), unseen=X86,
    ),
    Mutant(
        "biased-lock-never-given-back", CPU_LOCK,
        (("            store(mem, at, open_word(mem, host))\n            return False\n",
          "            store(mem, at, 0)\n            return False\n"),),
        "a guest that finds the claim of the CPU inside leaves the lock free and not open: the next"
        " one takes it by a compare-exchange and goes in",
        "X_PAYLOAD", ("lock-biased-guest-drain-3",), unseen=NO_GUESTS,
    ),
    Mutant(
        "called-off-drain-frees", CPU_LOCK,
        (("                store(mem, at, open_word(mem, host))\n",
          "                store(mem, at, 0)\n"),),
        "a drain that is called off leaves the lock free and not open, although the claim of the"
        " CPU is inside: until that opens it again, others go in",
        "X_PAYLOAD", ("lock-biased-called-off",), unseen=NEVER_STOPPED,
    ),
    Mutant(
        "biased-beneath-itself", CPU_LOCK,
        (("    if load_relaxed(mem, holds) != 0:\n        return False\n    store(mem, holds, at",
          "    store(mem, holds, at"),),
        "a kernel beneath one that holds a lock by its bias takes it again, and lets go for both",
        "X_PAYLOAD", ("lock-biased-beneath",), unseen=SELDOM_BENEATH,
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
          "    store_relaxed(mem, at, released_word(old))\n"),),
        "the swap of unlock made a load and a store: the flag that is set between them is lost"
        " with its sleeper",
        "I_PROGRESS", ("lock-sleep-2", "lock"), ("churn", "orders"), patient=True,
    ),
    Mutant(
        "flag-stored", LOCK,
        (("            if old & flags == flags or cas(mem, at, old, old | flags):\n",
          "            store_relaxed(mem, at, old | flags)\n            if True:\n"),),
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
        "array-tag-not-settled", "shmalloc/kernels/array_table.py",
        (("            settle(mem, pfn, tag)\n            if held", "            if held"),),
        "a reference is added without writing into its record what the last change was: if that"
        " one's process dies before it does so itself, no process knows that it was counted",
        "I_CONSERVATION", ("crash:arrays-load", "crash:arrays-open"), unseen=ONLY_BY_A_DEATH,
    ),
    Mutant(
        "array-named-late", "shmalloc/kernels/array_table.py",
        (("            if held != 0:  # before the swap: then others may settle the record\n"
          "                store_relaxed(mem, record + c.RE_NAME,"
          " load(mem, descriptor_at(mem, pfn) + 1))\n", ""),
         ("            if cas2(mem, entry, old, tag, old + 1,"
          " tag_of(record, sequence, c.TAG_ADDED)):\n",
          "            if cas2(mem, entry, old, tag, old + 1,"
          " tag_of(record, sequence, c.TAG_ADDED)):\n"
          "                if held != 0:\n"
          "                    store_relaxed(mem, record + c.RE_NAME,"
          " load(mem, descriptor_at(mem, pfn) + 1))\n")),
        "the record of an open learns the owner of the pages after it is counted: another process"
        " settles it, the opener dies, and recovery frees the pages of no one",
        "X_LOST_OWNER", ("crash:arrays-open", "crash:arrays-load"), unseen=ONLY_BY_A_DEATH,
    ),
    Mutant(
        "array-dropped-in-two-steps", "shmalloc/kernels/array_table.py",
        (("        if cas2(mem, entry, old, tag, old - 1, "
          "tag_of(record, sequence, c.TAG_DROPPED)):\n"
          "            return references - 1\n",
          "        store(mem, entry + c.AR_TAG, tag_of(record, sequence, c.TAG_DROPPED))\n"
          "        store(mem, entry, old - 1)\n"
          "        return references - 1\n"),),
        "a reference is dropped by load and store: of two that are dropped at once one is lost,"
        " and the array with it",
        "X_PAYLOAD", ("arrays-drop-drop",), ("arrays",),
    ),
    Mutant(
        "array-copy-keeps-its-number", "shmalloc/kernels/array_recovery.py",
        (("copy_record(mem, record, child, place, first + slot)",
          "copy_record(mem, record, child, place, load_relaxed(mem, record + c.RE_SEQUENCE))"),),
        "a forked child's reference has its parent's number, as an earlier child of the same claim"
        " had: a CPU that settles the drop of that one frees it, and the array stays for ever",
        "I_CONSERVATION", ("arrays-copy-open",), unseen=NO_FORKS,
    ),
    Mutant(
        "array-copied-over-a-ticket", "shmalloc/kernels/array_recovery.py",
        (("    return int(load(mem, record_at(mem, root_of(mem, child), slot)) == 0)\n",
          "    return 1\n"),),
        "references are copied for a child over the tickets of the process that had its claim: the"
        " array that was sent stays for ever",
        "I_CONSERVATION", ("arrays-copy-load",), unseen=NO_FORKS,
    ),
)  # fmt: skip
