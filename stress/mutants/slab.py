"""Mutants of slabs, sheaves, the barn, and of the end of a cache."""

from __future__ import annotations

from stress.mutants.mutant import JITTER, Mutant

SLAB = "shmalloc/kernels/slab.py"
SLAB_PUT = "shmalloc/kernels/slab_put.py"
SHEAF = "shmalloc/kernels/sheaf.py"
DRAIN = "shmalloc/kernels/sheaf_drain.py"
BARN = "shmalloc/kernels/barn.py"
CACHES = "shmalloc/kernels/cache_set.py"
OBJECTS = ("slabmix",)
ONE_NODE = ("--zones", "1")  # else a neighbour's objects go past the sheaves
NO_END = "workloads destroy caches after everything in them came back"
OVERWRITTEN = "no workload overwrites a free pointer: tox -e fuzz-links does"

MUTANTS = (
    Mutant(
        "pop-against-new-head", SLAB,
        (("        if cas2(mem, at, w0, w1, after, taken):\n            chain_is_ours",
          "        w0, w1 = load2(mem, at)\n"
          "        if cas2(mem, at, w0, w1, after, taken):\n            chain_is_ours"),),
        "a taker reads the slab's words once more and swaps against these: an object that came back"
        " meanwhile is lost from the free list, or taken and not counted",
        "I_SLAB", ("slab-alloc-free", "slab"), OBJECTS, ONE_NODE,
        precedent="S2 the swap compared against a freelist that was read again",
        commit="5076190daded",
    ),
    Mutant(
        "put-in-two-swaps", SLAB_PUT,
        (("        if cas2(mem, at, w0, w1, w0, counters(w1, first, inuse_of(w1) - count,"
          " objects_of(w1))):\n            return True\n",
          "        later = counters(w1, first, inuse_of(w1), objects_of(w1))\n"
          "        if cas2(mem, at, w0, w1, w0, later):\n"
          "            fewer = counters(later, first, inuse_of(w1) - count, objects_of(w1))\n"
          "            cas2(mem, at, w0, later, w0, fewer)\n            return True\n"),),
        "the free pointer changes in one swap and the count of objects in use in another: if"
        " another CPU comes in between, the count is wrong for ever",
        "I_SLAB", ("slab-free-free", "slab"), OBJECTS, ONE_NODE,
        precedent="S4 freelist and counters not swapped together",
    ),
    Mutant(
        "put-to-a-full-slab", SLAB_PUT,
        (("        if free_of(w1) == 0 or inuse_of(w1) <= count:\n",
          "        if inuse_of(w1) <= count:\n"),),
        "an object comes back to a full slab without the node lock: the slab has a free object and"
        " is on no list, so it is never found",
        "I_SLAB", ("slab-full-partial", "slab"), OBJECTS, ONE_NODE,
        precedent="S17 was_full from the wrong snapshot: slab on no list",
    ),
    Mutant(
        "full-slab-says-partial", SLAB,
        (("            after = on_list(w0, full_state(mem, cache))\n", "            after ="
          " w0\n"),),
        "the slab whose last object was taken leaves the list and still says that it is on it",
        "I_SLAB", ("slab-full-partial", "slab"), OBJECTS, ONE_NODE,
        precedent="S17 slab on a list twice, or never",
    ),
    Mutant(
        "slab-gone-too-early", SLAB_PUT,
        (("        if inuse == 0 and enough_partial(mem, cache, lists, before):\n",
          "        if inuse <= 1 and enough_partial(mem, cache, lists, before):\n"),),
        "a slab is given back while one of its objects is live",
        "I_SLAB", ("slab-full-empty", "slab-last-take"), OBJECTS, ONE_NODE,
        precedent="S23 slab discarded while inuse > 0",
    ),
    Mutant(
        "partial-taken-unlocked", SLAB,
        (("    chain: Chain = c.E_NOMEM\n    lock(mem, lists + cs.KN_LOCK, claim)\n",
          "    chain: Chain = c.E_NOMEM\n"),
         ("        chain = c.E_NOMEM  # that slab is frozen and off the list now: try the next\n"
          "    unlock(mem, lists + cs.KN_LOCK)\n",
          "        chain = c.E_NOMEM\n")),
        "the first partial slab is looked up and taken from without the node lock",
        "I_LIST_LINKS", ("slab-alloc-free", "slab"), OBJECTS, ONE_NODE,
        precedent="S17 list_lock dropped, list state acted on",
    ),
    Mutant(
        "new-slab-in-two-holds", SLAB,
        (("        # Under the same hold, or other CPUs could take all of them"
          " and leave us with nothing.\n",
          "        unlock(mem, lists + cs.KN_LOCK)\n"
          "        lock(mem, lists + cs.KN_LOCK, claim)\n"),),
        "the node lock is dropped between putting a new slab on the list and taking from it:"
        " others take all of its objects, or it is gone",
        "I_SLAB", ("slab-new-new", "slab-shrink-alloc"), OBJECTS, (*ONE_NODE, *JITTER),
    ),
    Mutant(
        "slab-version-dropped", SLAB.replace("slab.py", "objects.py"),
        (("    version = ((w1 >> c.S_VERSION_SHIFT) + 1) & c.S_VERSION_MASK\n",
          "    version = (w1 >> c.S_VERSION_SHIFT) & c.S_VERSION_MASK\n"),),
        "word 1 of a slab without its version: the freelist and its counts may be the same again"
        " while the objects behind the head are others",
        "I_SLAB", ("slab-free-free-alloc-3", "slab-alloc-free"), OBJECTS, ONE_NODE,
        precedent="S4 ABA on the freelist",
        equivalent="takers hold the node lock, so between a taker's read and its swap no other CPU"
        " takes: puts only add in front, the number in use only falls, and word 1 cannot be the"
        " same again. A put needs of the old list nothing but its head: when free, inuse and"
        " objects are all as it read them the head is the head, whatever happened to the rest, and"
        " its swap of word 0 fails if the slab changed list or ceased to be one, because that has a"
        " version of its own. The version is what allows takers without the lock, later.",
    ),
    Mutant(
        "put-empties-quickly", SLAB_PUT,
        (("        if free_of(w1) == 0 or inuse_of(w1) <= count:\n",
          "        if free_of(w1) == 0 or inuse_of(w1) < count:\n"),),
        "the last object comes back without the node lock: no CPU looks whether the slab must go",
        "I_SLAB", ("slab-last-take", "slab-shrink-free", "slab-destroy-free"), OBJECTS, ONE_NODE,
        equivalent="an empty slab on the partial list is a legal state: K_MIN_PARTIAL keeps some on"
        " purpose, and release_empty and destroy give them back by their count. What is lost is"
        " the bound on how many are kept, and a destroyer that meets the last free says E_BUSY"
        " once more than it had to; both are promises of policy and no invariant.",
    ),
    Mutant(
        "refill-keeps-the-spare", SHEAF,
        (("    spare = take_spare(mem, claim, part)\n    unspin(mem, part + cs.KC_LOCK, claim)\n"
          "    if spare == 0:  # another",
          "    unspin(mem, part + cs.KC_LOCK, claim)\n    if spare == 0:  # another"),),
        "a refill fills the spare sheaf while it is still in its slot: another process on the slot,"
        " or a drainer, works on the same sheaf",
        "I_SHEAF", ("slab-shared-refill", "slab-barn-take-take"), OBJECTS, ONE_NODE,
        precedent="S21 state acted on after the lock was dropped",
    ),
    Mutant(
        "flush-keeps-the-spare", SHEAF,
        (("    spare = take_spare(mem, claim, part)\n    unspin(mem, part + cs.KC_LOCK, claim)\n"
          "    if spare == 0:\n        return put_freed",
          "    spare = mem[part + cs.KC_SPARE]\n    unspin(mem, part + cs.KC_LOCK, claim)\n"
          "    if spare == 0:\n        return put_freed"),),
        "the same for the flush of a full spare",
        "I_SHEAF", ("slab-shared-flush", "slab-destroy-flush"), OBJECTS, ONE_NODE,
        precedent="S21 state acted on after the lock was dropped",
    ),
    Mutant(
        "bring-back-blind", SHEAF,
        (("        if mem[part + cs.KC_MAIN] != 0 and mem[part + cs.KC_SPARE] == 0:\n"
          "            move_sheaf(mem, sheaf, part)\n            mem[part + cs.KC_SPARE] = sheaf\n"
          "            unspin(mem, part + cs.KC_LOCK, claim)\n"
          "            return\n        unspin(mem, part + cs.KC_LOCK, claim)\n",
          "        move_sheaf(mem, sheaf, part)\n        mem[part + cs.KC_SPARE] = sheaf\n"
          "        unspin(mem, part + cs.KC_LOCK, claim)\n        return\n"),),
        "a sheaf comes back into the spare slot without a look at what is there: a full one that"
        " another CPU put there is lost",
        "I_SHEAF", ("slab-shared-refill", "slab-shared-flush", "slab-destroy-flush"), OBJECTS,
        ONE_NODE,
        precedent="S21 sheaf installed after relock without looking again",
        equivalent="who finds the spare slot empty never fills it: a swap of main and spare and an"
        " exchange in the barn need a spare that is there, so the slot stays 0 until the one who"
        " emptied it comes back. Only destroy writes it besides, a 0; then the sheaf goes back"
        " into a slot of a dying cache, the destroyer misses it and says E_BUSY, and the next"
        " destroy takes it from there. The look is for a swap that may come one day.",
    ),
    Mutant(
        "dying-sheaf-not-flushed", SHEAF,
        (("        flush(mem, claim, cache, sheaf)\n    barn_put(mem, claim, node_part(mem, cache,"
          " home_node",
          "        relax(mem)\n    barn_put(mem, claim, node_part(mem, cache, home_node"),
         ("from shmalloc.words import cas, load, load_relaxed, store, store_relaxed\n",
          "from shmalloc.words import cas, load, load_relaxed, relax, store, store_relaxed\n")),
        "a sheaf goes to the barn of a dying cache with objects in it, behind the destroyer's"
        " last look",
        "M_LEAKED_OBJECTS", ("slab-destroy-flush",), (), unseen=NO_END,
        equivalent="objects in a sheaf are in use for their slab, so their slab is there and the"
        " destroyer, who counts slabs, says E_BUSY; the next destroy drains the barn. What is lost"
        " is time: with the flush the second destroy need not come after this free has ended.",
    ),
    Mutant(
        "trade-for-nothing", BARN,
        (("    if found != 0:\n        barn_push(mem, lists, given, mine)\n"
          "        barn_pop(mem, lists, wanted, place)\n",
          "    barn_push(mem, lists, given, mine)\n    barn_pop(mem, lists, wanted, place)\n"),),
        "the count without the lock said that the barn has a sheaf, and it was gone: ours is left"
        " there all the same, and is in two places",
        "I_SHEAF", ("slab-barn-take-take", "slab-barn-swap"), OBJECTS, ONE_NODE,
        precedent="S21 state acted on that was read without the lock",
    ),
    Mutant(
        "barn-unlocked", BARN,
        (("    lock(mem, lists + cs.KN_BARN_LOCK, claim)\n    found =", "    found ="),
         ("        barn_pop(mem, lists, wanted, place)\n    unlock(mem, lists + cs.KN_BARN_LOCK)\n",
          "        barn_pop(mem, lists, wanted, place)\n")),
        "two CPUs exchange sheaves in the barn without its lock and get the same one",
        "I_SHEAF", ("slab-barn-take-take", "slab-barn-swap"), OBJECTS, ONE_NODE,
    ),
    Mutant(
        "drain-flushes-unlocked", DRAIN,
        (("    if held > 0:\n"
          "        if mem[part + cs.KC_MAIN] != 0:\n",
          "    if held > 0:\n"
          "        store(mem, part + cs.KC_LOCK, after)\n"
          "        if mem[part + cs.KC_MAIN] != 0:\n"),
         ("            flush(mem, claim, cache, mem[part + cs.KC_SPARE])\n"
          "        store(mem, part + cs.KC_LOCK, after)\n",
          "            flush(mem, claim, cache, mem[part + cs.KC_SPARE])\n")),
        "a drain opens the CPU's sheaves before it has flushed them: an object goes to its slab and"
        " to a user",
        "I_SHEAF", ("slab-shrink-sheaf",), ("slabmix", "hotplug"),
    ),
    Mutant(
        "flush-counts-short", SHEAF,
        (("                first = entry_index(entry) + 1\n                count += 1\n",
          "                first = entry_index(entry) + 1\n                count = 1\n"),),
        "a run of objects goes back to its slab and is counted as one",
        "I_SLAB", ("slab-flush-run",), OBJECTS, ONE_NODE,
        precedent="S15 bulk free: depth of the rebuilt freelist is not cnt",
        commit="899447f669da",
    ),
    Mutant(
        "take-believes-the-list", "shmalloc/kernels/object_chain.py",
        (("        if is_live(owner):\n            return -address\n", ""),
         ("    is_live,\n", "")),
        "an allocation believes a free pointer that was overwritten by the index of an object in"
        " use, and goes on with that object's own words as free pointers",
        "M_FREECHAIN", ("stray-take",), unseen=OVERWRITTEN, precedent="docs/bugs.md 46",
    ),
    Mutant(
        "flush-puts-the-used-back", SHEAF,
        (("            if is_live(load_relaxed(mem, owner_of_entry(mem, entry))):\n"
          "                in_two_places(mem, claim, entry)\n            else:\n",
          "            if True:\n"),),
        "a flush puts an object back that is in the sheaf, but in use since another place gave it"
        " out: the mark of the flush overwrites its owner word, and it is given out once more",
        "X_DOUBLE_ALLOC", ("stray-flush",), unseen=OVERWRITTEN, precedent="docs/bugs.md 46",
    ),
    Mutant(
        "shrink-follows-any-link", CACHES,
        (("        if pfn < 0 or following == 0 or prev_of(mem, following) != at:\n",
          "        if pfn < 0:\n"),
         ("import list_init, next_of, prev_of\n", "import list_init, next_of\n")),
        "a shrink follows a link of a slab that was overwritten and leads back, for ever, with the"
        " lock of the node",
        "I_PROGRESS", ("stray-shrink-list",), unseen=OVERWRITTEN, precedent="docs/bugs.md 50",
    ),
    Mutant(
        "shrink-takes-used", CACHES,
        (("        if inuse_of(w1) == 0 and unmake(", "        if inuse_of(w1) <= 1 and unmake("),),
        "a shrink gives back a slab with a live object",
        "I_SLAB", ("slab-shrink-alloc", "slab-shrink-free"), OBJECTS, ONE_NODE,
        precedent="S23 slab discarded while inuse > 0",
    ),
    Mutant(
        "shrink-without-swap", CACHES,
        (("        if inuse_of(w1) == 0 and unmake(mem, claim, lists, pfn, w0, w1):\n",
          "        if inuse_of(w1) == 0:\n            unmake(mem, claim, lists, pfn, w0, w1)\n"),),
        "a shrink does not look whether its swap made the empty slab its own",
        "I_SLAB", ("slab-shrink-alloc", "slab-shrink-free", "slab-shrink-sheaf"), OBJECTS, ONE_NODE,
        equivalent="an empty slab has no object that could come back, and taking one needs the node"
        " lock, which the shrink holds: between its read and its swap none can change the pair,"
        " so the swap cannot fail. The answer is looked at because a lock may be wrong.",
    ),
    Mutant(
        "destroy-ignores-sheaves", CACHES,
        (("    if sheaves != mem[cache + cs.K_SHEAF_COUNT]:\n"
          "        return c.E_BUSY  # a CPU that still frees holds one\n", ""),),
        "a cache is destroyed while another CPU moves one of its sheaves: the sheaf's page"
        " is free when he writes to it",
        "I_BYTES", ("slab-destroy-sheaf", "slab-destroy-flush"), (), unseen=NO_END,
        precedent="S11 cache released while still in use", commit="46a9ea668190",
    ),
    Mutant(
        "destroy-waits-for-the-stopped", DRAIN,
        (("    if held < 0:\n        return held\n    main",
          "    while held < 0:\n"
          "        held = spin_or_skip(mem, part + cs.KC_LOCK, claim, victim)\n    main"),),
        "a destroy waits without a limit for a process that has stopped with the lock of a CPU's"
        " sheaves, and keeps the others from the set of caches meanwhile",
        "I_PROGRESS", ("slab-destroy-stopped",),
        unseen="no workload destroys a cache that others still use",
    ),
    Mutant(
        "destroy-ignores-slabs", CACHES,
        (("        if live > 0 or slabs > frozen_slabs(mem, cache):\n"
          "            return c.E_BUSY\n", ""),),
        "a cache is destroyed although its slabs are still there",
        "M_LEAKED_OBJECTS", ("slab-destroy-free", "slab-destroy-flush"), (), unseen=NO_END,
        precedent="S11 fix slab_caches list corruption after kmem_cache_destroy()",
        commit="46a9ea668190",
    ),
    Mutant(
        "destroy-counts-unlocked", CACHES,
        (("    lock(mem, at, claim)\n    if is_slab_of(page_state(mem, pfn), cache_id):\n"
          "        return at\n    unlock(mem, at)\n    return 0\n",
          "    lock(mem, at, claim)\n    return at\n"),),
        "docs/bugs.md 3, our own: a destroyer counts the objects of a slab that the last free has"
        " unmade since it was found, and reads thousands of words behind its page",
        "M_LEAKED_OBJECTS", ("slab-destroy-free",), (), unseen=NO_END,
    ),
    Mutant(
        "remote-free-under-own-node", SLAB_PUT,
        (("    lists = node_part(mem, cache, node_of_slab(mem, page_state(mem, pfn)))\n    lock",
          "    lists = node_part(mem, cache, home_node(mem, claim))\n    lock"),
         ("    free_of,\n    inuse_of,", "    free_of,\n    home_node,\n    inuse_of,")),
        "a free of another node's object changes the slab under the lock of the CPU's own node,"
        " and puts it on the lists of that one",
        "I_SLAB", ("node-free-remote", "node-free-remote-sheaf"), OBJECTS,
    ),
)  # fmt: skip
