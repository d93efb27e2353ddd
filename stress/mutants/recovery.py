"""Mutants of recovery: what is rebuilt, in which order, and what the living must have written.

The explorer's crash mode (stress/crash) kills a CPU before each of its writes and hunts these. The
last ones break what an operation promises to a recovery, and nothing that a living process sees.
"""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

RECOVER = "shmalloc/kernels/recover.py"
REBUILD = "shmalloc/kernels/rebuild.py"
SWEEP = "shmalloc/kernels/recover_pages.py"
RESLAB = "shmalloc/kernels/recover_objects.py"
KILLS = ("--faults", "kill:every=50ms,kill:every=80ms,fuse=1..2000")
DENSE = ("--faults", "kill:every=10ms,kill:every=20ms,fuse=1..2000")  # several dead at a time
PAGES = ("churn", "orders")
OBJECTS = ("slabmix",)

MUTANTS = (
    Mutant(
        "recovery-asks-too-early", RECOVER,
        (("            release_nodes(mem, claim, victim)\n    for",
          "            settle_put(mem, claim, victim)\n    for"),
         ("            settle_put(mem, claim, victim)\n    for victim in range(used):\n"
          "        if is_dead(mem, victim):\n            release_parts",
          "            release_nodes(mem, claim, victim)\n    for victim in range(used):\n"
          "        if is_dead(mem, victim):\n            release_parts")),
        "recovery asks a free list whether a put was made before it has taken over the lock of its"
        " node: it waits for the dead",
        "I_PROGRESS", ("crash:slab-full-partial", "crash:objects-slabs"),
        workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-folds-nothing", REBUILD,
        (("        if kind == c.T_FREE or kind == c.T_ISOLATED:\n            for inner",
          "        if kind == c.T_ISOLATED:\n            for inner"),),
        "recovery leaves the heads inside of a free block alone: a process that merges it, or asks"
        " for one of its pages, believes them",
        "I_TAIL", ("crash:pages-order-1",), workloads=PAGES, run_options=KILLS,
    ),
    Mutant(
        "create-inherits-destroyer", "shmalloc/kernels/cache_set.py",
        (("    store(mem, cache + cs.K_DESTROYER, 0)\n    for node", "    for node"),),
        "a process that died after it destroyed a cache is still its destroyer; recovery then"
        " destroys the cache that another process has made in its place",
        "M_LEAKED_OBJECTS", ("crash:cache-reborn",), workloads=("modules",), run_options=DENSE,
        precedent="docs/bugs.md 13",
    ),
    Mutant(
        "recovery-trusts-counters", REBUILD,
        (("    store_relaxed(mem, zone + c.Z_FREE, 0)\n", ""),),
        "recovery counts free pages on top of what the dead had counted",
        "I_CONSERVATION", ("crash:pages-order-0",), workloads=PAGES, run_options=KILLS,
        precedent="B7 count free pages outside of the list operation",
    ),
    Mutant(
        "recovery-trusts-lists", RECOVER,
        (("            rebuild_zone(mem, claim, zone)\n            unlock", "            unlock"),),
        "recovery takes a zone's lock over and releases it, believing its lists and counts",
        "I_LIST_LINKS", ("crash:pages-order-0",), workloads=PAGES, run_options=KILLS,
    ),
    Mutant(
        "recovery-unlocks-first", RECOVER,
        (("            rebuild_zone(mem, claim, zone)\n            unlock(mem, zone + c.Z_LOCK)\n",
          "            unlock(mem, zone + c.Z_LOCK)\n"
          "            rebuild_zone(mem, claim, zone)\n"),),
        "recovery opens a zone before it has rebuilt it: the living work on half of a list",
        "I_LIST_LINKS", ("crash:buddy-alloc-alloc", "crash:buddy-alloc-free"),
        workloads=PAGES, run_options=KILLS,
    ),
    Mutant(
        "recovery-trusts-pcp-lists", RECOVER,
        (("                rebuild_lists(mem, claim, owner, zone_id)\n                let_go(",
          "                let_go("),
         ("                rebuild_lists(mem, claim, owner, zone_id)\n                unspin(",
          "                unspin(")),
        "recovery opens the per-CPU lists that the dead had locked, and believes them",
        "I_PCP_COUNT", ("crash:pages-drain-cpu",),
        workloads=("churn", "hotplug"), run_options=DENSE,
    ),
    Mutant(
        "recovery-trusts-biased-lists", RECOVER,
        (("            if is_inside(mem, at, victim):\n"
          "                rebuild_lists(mem, claim, owner, zone_id)\n"
          "                let_go(mem, victim)\n", ""),),
        "recovery does not look into the record of the dead, which says that it was inside of its"
        " lists, and lets go",
        "I_PCP_COUNT", ("crash:pcp-drain-free+biased", "crash:pages-order-0+biased"),
        workloads=("churn", "hotplug"), run_options=DENSE,
    ),
    Mutant(
        "recovery-wakes-none", RECOVER,
        (("    wake_sleepers(mem)  # first: a", "    # a"),),
        "the dead was woken for a lock and did not come; recovery does not wake the next sleeper",
        "I_PROGRESS", ("crash:buddy-alloc-free", "crash:buddy-alloc-alloc-3"), unseen=LOOKS_AGAIN,
        precedent="P10 the sleeper is never woken",
    ),
    Mutant(
        "recovery-leaves-it-kept", "shmalloc/kernels/lock.py",
        (("    while old & c.LOCK_HANDOFF != 0 and not", "    while old == c.LOCK_KEPT and not"),),
        "docs/bugs.md 19, our own: the sleeper that asked for the lock died, and its owner lets"
        " go a moment later: the lock stays reserved for the dead sleeper",
        "I_PROGRESS", ("crash:zone-rounds",), unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "recovery-skips-unplugged", RECOVER,
        (("        rebuild_unplugged(mem)\n", ""),),
        "docs/bugs.md 20, our own: a destroyer dies while it takes the sheaves of an unplugged CPU,"
        " whose lock it cannot hold: a sheaf is where its word says, and where it was",
        "I_SHEAF", ("crash:hotplug-caches",), workloads=("modules", "hotplug"), run_options=DENSE,
    ),
    Mutant(
        "recovery-keeps-its-turn", RECOVER,
        (("    wake(mem, c.H_RECOVERY, c.MAX_CLAIMS)\n    wake(mem", "    wake(mem"),),
        "a process that left the recovery and died before it woke the next leaves it asleep",
        "I_PROGRESS", ("crash:recover-recover",), unseen=LOOKS_AGAIN,
        precedent="docs/bugs.md 17",
    ),
    Mutant(
        "recovery-forgets-waiter", RECOVER,
        (("    empty_seats(mem, victim)\n", ""),),
        "a dead waiter counts as one for ever: every free goes past the per-CPU lists",
        "I_PROGRESS", ("crash:pages-wait",), workloads=("oom-edge",), run_options=KILLS,
    ),
    Mutant(
        "release-beside-a-mark", "shmalloc/kernels/slots.py",
        (("    return 0 if cas2(mem, pair, epoch, dead, epoch + 1, dead) else c.E_AGAIN\n",
          "    return 0 if cas(mem, pair, epoch, epoch + 1) else c.E_AGAIN\n"),),
        "docs/bugs.md 39, our own: a process gives its claim back and does not see that it was"
        " marked dead a moment before: its life counts as recovered, and what it left is reaped",
        "X_LOST_OWNER", ("claims-release-mark",),
        unseen="no process is marked that lives, unless its lock is lost",
    ),
    Mutant(
        "mark-of-any-life", "shmalloc/kernels/slots.py",
        (("        if seen != epoch:\n            return 0\n"
          "        if dead == epoch + 1 or cas2(mem, pair, epoch, dead, epoch, epoch + 1):\n",
          "        if dead == seen + 1 or cas2(mem, pair, seen, dead, seen, seen + 1):\n"),),
        "docs/bugs.md 39, our own: a mark counts for the life that it meets, not for the one that"
        " was seen dead: recovery wipes a process that has just taken the claim",
        "I_PROGRESS", ("claims-claim-mark",),
        unseen="no process is marked that lives, unless its lock is lost",
    ),
    Mutant(
        "list-left-before-handed-out", "shmalloc/kernels/pages.py",
        (("        pfn = pcp_pop(mem, pcp, index, order)\n    if pfn >= 0:\n"
          "        pfn = give_listed_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)\n"
          "    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] >> 1\n"
          "    unspin(mem, pcp + c.P_LOCK, claim)\n    return pfn\n",
          "        pfn = pcp_pop(mem, pcp, index, order)\n"
          "    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] >> 1\n"
          "    unspin(mem, pcp + c.P_LOCK, claim)\n    if pfn >= 0:\n"
          "        pfn = give_listed_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)\n"
          "    return pfn\n"),),
        "a block leaves its list under the lock and gets its owner behind it: the other user of the"
        " CPU dies in between, and recovery puts the block, labelled as the list's, back on it",
        "I_PCP_COUNT", ("crash:pcp-shared-slot",),
        unseen="workers of a run have a CPU each",
    ),
    Mutant(
        "relisted-with-owner", "shmalloc/kernels/pcp_repair.py",
        (("    store_relaxed(mem, descriptor_at(mem, pfn) + 1, 0)\n", ""),),
        "recovery puts a block that was being handed out back on its list with its owner in word 1",
        "I_FREE_HEAD", ("crash:pages-order-0",),
        unseen="two stores, one behind the other: no kill of a run comes between them",
    ),
    Mutant(
        "recovery-forgets-hand", SWEEP,
        (("type_of(w0) == c.T_PCP or (type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SLAB)\n",
          "type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SLAB\n"),),
        "blocks that the dead had in its hands are on no list for ever",
        "I_TEARDOWN", ("crash:pages-bulk",), workloads=PAGES, run_options=KILLS,
    ),
    Mutant(
        "recovery-forgets-slab-pages", SWEEP,
        (("type_of(w0) == c.T_PCP or (type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SLAB)\n",
          "type_of(w0) == c.T_PCP\n"),),
        "pages on their way to a slab or from one are lost for ever",
        "I_TEARDOWN", ("crash:objects-slabs",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-keeps-isolation", SWEEP,
        (("    end_isolations(mem, claim, zone, victim)\n", ""),),
        "a pageblock that the dead had isolated stays so: no process can allocate from it again",
        "I_FREE_HEAD", ("crash:range-isolate",), workloads=("contig",), run_options=KILLS,
    ),
    Mutant(
        "recovery-forgets-chain", RECOVER,
        (("    settle_taken(mem, claim, victim)\n", ""),),
        "the chain of objects that the dead had taken off a free list is lost",
        "M_LEAKED_OBJECTS", ("crash:objects-slabs",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-believes-take", RESLAB,
        (("    if on_free_list(mem, cache, chain_pfn(chain), w1, chain_first(chain)):\n"
          "        store(mem, slot + c.C_INTENT, cs.INTENT_NONE)\n    else:\n"
          "        store(mem, slot + c.C_INTENT, cs.INTENT_TAKEN)\n",
          "    store(mem, slot + c.C_INTENT, cs.INTENT_TAKEN)\n"),),
        "recovery does not look whether the swap of an announced take was made, and gives back"
        " objects that are on the free list already",
        "M_FREECHAIN", ("crash:objects-slabs",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-believes-put", RESLAB,
        (("    made = was_put(\n"
          "        mem, claim, load_relaxed(mem, slot + c.C_INTENT_CACHE), chain,"
          " in_hand(mem, victim)\n    )\n", "    made = True\n"),),
        "recovery resolves an announced put without looking whether its swap was made: objects that"
        " never came back are lost",
        "M_LEAKED_OBJECTS", ("crash:objects-slabs",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-forgets-sheaf", RESLAB,
        (("        if load(mem, sheaf + cs.SF_WHERE) == in_hand(mem, victim):\n",
          "        if load(mem, sheaf + cs.SF_WHERE) == 0:\n"),),
        "a sheaf that the dead was refilling or flushing is lost, with what is in it",
        "I_SHEAF", ("crash:objects-sheaves",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-keeps-live-entries", RESLAB,
        (("        if not live and not has_entry", "        if not has_entry"),),
        "an object that was being freed into a sheaf, or given out from it, when the kill came"
        " stays in the sheaf while its owner has it",
        "I_SHEAF", ("crash:slab-flush-run", "crash:objects-sheaves"),
        workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "exact-free-counts-first", "shmalloc/kernels/sheaf.py",
        (("    if is_exact(mem, cache) and not cas(mem, at, owner, cs.KEPT | owner_word(mem,"
          " claim)):\n"
          "        return False  # the entry behind the last one means nothing\n"
          "    init_on_free(mem, cache, entry_address(entry))\n"
          "    mem[sheaf + cs.SF_SIZE] = size + 1\n    store(mem, at, 0)\n",
          "    mem[sheaf + cs.SF_SIZE] = size + 1\n    if not is_exact(mem, cache):\n"
          "        store(mem, at, 0)\n    elif not cas(mem, at, owner, 0):\n"
          "        mem[sheaf + cs.SF_SIZE] = size\n        return False\n"),),
        "an exact free counts the object in its sheaf before it knows that it won: of two frees at"
        " once the loser dies before he takes it off again, and the object is in two sheaves",
        "I_SHEAF", ("crash:slab-free-free-sheaf", "crash:slab-free-free-flush"),
        unseen="workloads free an object once: two frees of one are a misuse",
        precedent="docs/bugs.md 18",
    ),
    Mutant(
        "recovery-forgets-kept", RESLAB,
        (("    count_kept(mem, cache, sheaf)\n", ""),),
        "an object that the dead had freed exactly, and not counted in its sheaf yet, is nowhere",
        "M_LEAKED_OBJECTS", ("crash:objects-sheaves-exact", "crash:slab-free-free-sheaf"),
        workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "intent-after-the-swap", "shmalloc/kernels/slab.py",
        (("        intend_take(mem, claim, cache, chain)\n        # Lin", "        # Lin"),
         ("            chain_is_ours(mem, claim)\n            if count",
          "            intend_take(mem, claim, cache, chain)\n"
          "            chain_is_ours(mem, claim)\n            if count")),
        "a taker announces its chain after it has swapped: for a moment the objects are neither on"
        " the free list nor named by any slot",
        "M_LEAKED_OBJECTS", ("crash:objects-slabs",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "mark-after-the-intent", "shmalloc/kernels/sheaf.py",
        (("    store_relaxed(mem, mark, cs.GIVEN | owner_word(mem, claim))\n"
          "    intend_put(mem, claim, cache, chain, sheaf)\n",
          "    intend_put(mem, claim, cache, chain, sheaf)\n"
          "    store_relaxed(mem, mark, cs.GIVEN | owner_word(mem, claim))\n"),),
        "a flush announces a put before it marks the first object: an heir who comes in between"
        " finds no mark and believes that the swap was made",
        "M_LEAKED_OBJECTS", ("crash:slab-shrink-sheaf", "crash:objects-sheaves"),
        workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "live-after-the-sheaf", "shmalloc/kernels/sheaf.py",
        (("    fresh = set_owner(",
          "    store(mem, sheaf + cs.SF_SIZE, size - 1)\n    fresh = set_owner("),
         ("    store(mem, sheaf + cs.SF_SIZE, size - 1)  # after the owner word:"
          " recovery relies on it\n", "")),
        "an object leaves its sheaf before it is live: a kill in between and it is nowhere",
        "M_LEAKED_OBJECTS", ("crash:objects-sheaves",), workloads=OBJECTS, run_options=KILLS,
    ),
    Mutant(
        "recovery-fills-nothing", SWEEP,
        (("        fill_on_free(mem, pfn, order)\n        free_block(mem, zone, claim, pfn, order)",
          "        free_block(mem, zone, claim, pfn, order)"),),
        "pages that recovery sweeps up are neither zeroed nor poisoned: the dead had taken one back"
        " from its owner, whose words are still in it",
        "I_BYTES", ("crash:filled-bulk", "crash:pages-order-0-poison"), PAGES,
        ("--geometry", "fill=poison", *KILLS),
    ),
    Mutant(
        "rebuild-ends-offline", REBUILD,
        (("        if kind == c.T_ISOLATED or (kind == c.T_OFFLINE"
          " and block_mt(mem, pfn) != c.MT_ISOLATE):\n",
          "        if kind == c.T_ISOLATED or kind == c.T_OFFLINE:\n"),),
        "who dies with the zone lock brings the offline pages of others back into service",
        "X_RANGE", ("crash:range-kept-offline",), ("contig",), KILLS,
    ),
    Mutant(
        "recovery-ends-offline", SWEEP,
        (("isolator_of(mem, at) == label(mem, victim):",
          "isolator_of(mem, at) <= label(mem, victim):"),),
        "recovery takes the isolations that outlive their maker for those of the dead",
        "X_RANGE", ("crash:range-kept-offline",), ("contig",), KILLS,
    ),
    Mutant(
        "recovery-wipes-nothing", RESLAB,
        (("    if chain_count(chain) == 1:\n"
          "        init_on_free(mem, cache, last)  # it was being freed, and perhaps wiped only in"
          " part\n", ""),),
        "with init_on_free, an object whose owner died between the end of its life and the wipe is"
        " free with what he wrote into it",
        "I_BYTES", ("crash:objects-written-slabs",), unseen="a run does not look into free objects",
    ),
    Mutant(
        "free-wipes-nothing", "shmalloc/kernels/sheaf.py",
        (("    init_on_free(mem, cache, entry_address(entry))\n    mem[sheaf + cs.SF_SIZE]",
          "    mem[sheaf + cs.SF_SIZE]"),),
        "with init_on_free, an object that is freed into a sheaf keeps what its owner wrote",
        "I_BYTES", ("crash:objects-written-sheaves", "crash:objects-written-exact"),
        unseen="a run does not look into free objects",
    ),
)  # fmt: skip
