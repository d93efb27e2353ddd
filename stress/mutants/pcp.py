"""Mutants of the per-CPU lists, of CPU hotplug, and of waiting for memory."""

from __future__ import annotations

from stress.mutants.mutant import JITTER, LOOKS_AGAIN, OFTEN, Mutant

PCP = "shmalloc/kernels/pcp.py"
PCP_LISTS = "shmalloc/kernels/pcp_lists.py"
PAGES = "shmalloc/kernels/pages.py"
WAIT = "shmalloc/kernels/pages_wait.py"
WAITERS = "shmalloc/kernels/waiters.py"
HOTPLUG = "shmalloc/kernels/hotplug.py"
CPU_LOCK = "shmalloc/kernels/cpu_lock.py"

MUTANTS = (
    Mutant(
        "drain-looks-at-counts", PCP,
        (("        held = spin_or_skip(mem, pcp + c.P_LOCK, claim, victim)\n",
          "        held = 0\n        if load_relaxed(mem, pcp + c.P_COUNT) > 0:\n"
          "            held = spin_or_skip(mem, pcp + c.P_LOCK, claim, victim)\n"),),
        "a drain passes over lists that look empty without their lock: a refill that has pushed and"
        " not yet counted keeps its pages from a process that needs all of them",
        "I_PCP_COUNT", ("pcp-refill-drain", "pcp"),
        unseen="what a run sees of it is one E_BUSY or E_NOMEM more",
        precedent="P1 pcp->count race between drain_pages_zone() and __rmqueue_pcplist()",
        commit="66eca1021a42",
    ),
    Mutant(
        "pcp-lock-not-needed", PAGES,
        (("    if not try_spin(mem, pcp + c.P_LOCK, claim):\n"
          "        event(mem, claim, c.EV_PCP_MISS)\n"
          "        return alloc_from_zone(mem, claim, zone_id, order, gfp, owner)\n",
          "    try_spin(mem, pcp + c.P_LOCK, claim)\n"),),
        "an allocation goes on although it did not get the lock of the list: two processes that"
        " share a slot, or the owner and a drainer, pop the same block",
        "I_LIST_LINKS", ("pcp-shared-slot", "pcp-drain-alloc"), ("oom-edge", "hotplug"),
        precedent="P3 prevent pcp corruption with SMP=n: a trylock that always succeeds",
        commit="038a102535eb",
    ),
    Mutant(
        "pcp-unlock-early", PAGES,
        (("        fill_on_free(mem, pfn, order)\n        pcp_push(mem, pcp, index, order, pfn)\n"
          "    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] + (1 << order)\n",
          "        unspin(mem, pcp + c.P_LOCK, claim)\n        fill_on_free(mem, pfn, order)\n"
          "        pcp_push(mem, pcp, index, order, pfn)\n"
          "    mem[pcp + c.P_FREE_RUN] = mem[pcp + c.P_FREE_RUN] + (1 << order)\n"),
         ("    mem[pcp + c.P_FACTOR] = mem[pcp + c.P_FACTOR] >> 1\n"
          "    unspin(mem, pcp + c.P_LOCK, claim)\n",
          "    mem[pcp + c.P_FACTOR] = mem[pcp + c.P_FACTOR] >> 1\n")),
        "a free opens the lock of its list before it pushes: a remote drain walks the list as it"
        " changes",
        "I_PCP_COUNT", ("pcp-drain-free", "pcp"), ("oom-edge", "hotplug"),
    ),
    Mutant(
        "drain-in-wrong-order", PCP_LISTS,
        (("    if index < c.PCP_ORDERS * c.MT_PCP_TYPES:\n        return index // c.MT_PCP_TYPES\n",
          "    if index < c.PCP_ORDERS * c.MT_PCP_TYPES:\n        return index % c.PCP_ORDERS\n"),),
        "the number of a list is turned back into another order than it was made of: drained pages"
        " come back as blocks that reach over their neighbours",
        "I_FREE_HEAD", ("pcp-refill-drain", "pcp"), ("churn", "oom-edge"),
        precedent="P9 order_to_pindex and pindex_to_order are not inverse",
    ),
    Mutant(
        "drain-ignores-unplugged", CPU_LOCK,
        (("        if load_relaxed(mem, at) == c.LOCK_OFFLINE:\n            return 0\n", ""),),
        "a drainer waits for the lock of a CPU that was unplugged meanwhile, for ever",
        "I_PROGRESS", ("pcp-unplug-drain",),
        unseen="every CPU is plugged in again: the drainer only waits longer",
    ),
    Mutant(
        "unplug-opens-a-gap", HOTPLUG,
        (("            store(mem, pcp + c.P_LOCK, c.LOCK_OFFLINE)\n",
          "            store(mem, pcp + c.P_LOCK, 0)\n"
          "            store(mem, pcp + c.P_LOCK, c.LOCK_OFFLINE)\n"),),
        "unplugging releases the list it has drained, then locks it for good: a page freed in"
        " between is lost behind a lock that no process may take",
        "I_TEARDOWN", ("pcp-unplug-free", "pcp"), ("hotplug",), JITTER,
        precedent="P7 disable pcplists during memory offline",
    ),
    Mutant(
        "unplug-not-exclusive", HOTPLUG,
        (("    if not cas(mem, state, c.CPU_ONLINE, c.CPU_CHANGING | (claim + 1)"
          " << c.CPU_CHANGER_SHIFT):\n"
          "        return c.E_BUSY  # not online, or another CPU is changing it\n",
          "    cas(mem, state, c.CPU_ONLINE, c.CPU_CHANGING | (claim + 1)"
          " << c.CPU_CHANGER_SHIFT)\n"),),
        "two unplug one CPU at once, and one of them plugs it in while the other still drains",
        "I_PROGRESS", ("pcp-unplug-unplug", "pcp-hotplug-3"), ("hotplug",),
    ),
    Mutant(
        "plug-not-exclusive", HOTPLUG,
        (("    if not cas(mem, state, c.CPU_OFFLINE,", "    cas(mem, state, c.CPU_OFFLINE,"),
         (" | (claim + 1) << c.CPU_CHANGER_SHIFT):\n        return c.E_BUSY\n    check_un",
          " | (claim + 1) << c.CPU_CHANGER_SHIFT)\n    check_un")),
        "a CPU is plugged in while another unplugs it: the lists that it has locked are open again"
        " behind his back, and he says that it is offline",
        "I_PROGRESS", ("pcp-unplug-plug", "pcp"), ("hotplug",), JITTER,
    ),
    Mutant(
        "type-before-pcp-lock", PAGES,
        (("        pcp = own_pcp(mem, claim, zone_of_word(w0))\n",
          "        pcp = own_pcp(mem, claim, zone_of_word(w0))\n"
          "        mt = block_mt(mem, pfn)\n"),
         ("            return free_to_pcp(mem, claim, pcp, pfn, order, w0, w1)\n",
          "            return free_to_pcp(mem, claim, pcp, pfn, order, w0, w1, mt)\n"),
         ("order: Order, w0: Word0, w1: Word1\n) -> int:\n    \"\"\"Free a block that was seen as"
          " (w0, w1) to the CPU",
          "order: Order, w0: Word0, w1: Word1,\n    mt: Migratetype\n) -> int:\n"
          "    \"\"\"Free a block that was seen as (w0, w1) to the CPU"),
         ("    mt = block_mt(mem, pfn)\n    if keeps_off_list", "    if keeps_off_list")),
        "a free reads the type of its pageblock before it has the lock of its list: isolated and"
        " drained in between, the page hides from the isolation",
        "I_PCP_COUNT", ("contig-isolate-free",), ("contig", "slabmix"), (*OFTEN, *JITTER),
        precedent="B5 close migratetype race between freeing and stealing",
        commit="55612e80e722",
    ),
    Mutant(
        "isolated-page-on-a-list", PAGES,
        (("    if mt == c.MT_ISOLATE or load_relaxed(mem, c.H_WAITERS) > 0:\n",
          "    if load_relaxed(mem, c.H_WAITERS) > 0:\n"),),
        "a page of an isolated pageblock is kept on a per-CPU list, for which it has no number",
        "I_PCP_COUNT", ("contig-isolate-free", "contig"), ("contig",),
        precedent="B4 remove pcppage migratetype caching",
    ),
    Mutant(
        "free-hides-from-waiter", PAGES,
        (("    if mt == c.MT_ISOLATE or load_relaxed(mem, c.H_WAITERS) > 0:\n",
          "    if mt == c.MT_ISOLATE:\n"),),
        "a free puts its page on a list although a process sleeps for memory, and wakes no one",
        "I_PROGRESS", ("wait-list-wake", "wait"),
        unseen="a sleeper wakes every 50 ms natively and drains all lists",
        precedent="P10 the sleeper is never woken",
    ),
    Mutant(
        "arm-late", WAIT,
        (("        ticket = arm_wake(mem)\n"
          "        # Tries again after the announcement,"
          " and drains every CPU's list on the way.\n"
          "        pfn = alloc_pages(mem, claim, order, gfp, owner)\n"
          "        if pfn != c.E_NOMEM:\n            break\n",
          "        pfn = alloc_pages(mem, claim, order, gfp, owner)\n"
          "        if pfn != c.E_NOMEM:\n            break\n        ticket = arm_wake(mem)\n"),),
        "a waiter looks first and arms the wake word afterwards: a page that is freed in between"
        " finds nothing to disarm, and the waiter sleeps beside it",
        "I_PROGRESS", ("wait-page-wake", "wait-pair-wake-3"),
        unseen=LOOKS_AGAIN,
        precedent="P10 the sleeper is never woken",
    ),
    Mutant(
        "counted-after-look", WAIT,
        (("    seat = take_seat(mem, claim)\n    while seat < 0 and",
          "    seat = 0\n    while seat < 0 and"),
         ("        event(mem, claim, c.EV_WAIT)\n        wait(mem, c.H_WAKE, ticket)\n",
          "        event(mem, claim, c.EV_WAIT)\n        take_seat(mem, claim)\n"
          "        wait(mem, c.H_WAKE, ticket)\n")),
        "a waiter counts itself after its look: a free in between sees no waiter and keeps its page"
        " on a list, or wakes no one",
        "I_PROGRESS", ("wait-page-wake", "wait-pair-wake-3"),
        unseen="a sleeper wakes every 50 ms natively and drains all lists",
        precedent="P10 the sleeper is never woken",
    ),
    Mutant(
        "wake-before-pages", PAGES,
        (("    zone = zone_at(mem, zone_id)\n    lock(mem, zone + c.Z_LOCK, claim)\n"
          "    free_block(mem, zone, claim, pfn, order)\n    unlock_zone(mem, claim, zone)\n"
          "    wake_waiters(mem, claim)\n",
          "    zone = zone_at(mem, zone_id)\n    wake_waiters(mem, claim)\n"
          "    lock(mem, zone + c.Z_LOCK, claim)\n    free_block(mem, zone, claim, pfn, order)\n"
          "    unlock_zone(mem, claim, zone)\n"),),
        "a free looks for waiters before the zone has its page: a waiter that comes in between"
        " finds nothing and sleeps",
        "I_PROGRESS", ("wait-zone-wake", "wait"),
        unseen=LOOKS_AGAIN,
        precedent="P10 the sleeper is never woken",
    ),
    Mutant(
        "wake-only-one", WAITERS,
        (("            wake(mem, c.H_WAKE, c.MAX_CLAIMS)\n            event",
          "            wake(mem, c.H_WAKE, 1)\n            event"),),
        "a free that disarms the word wakes one sleeper; the others sleep on a value that is gone"
        " and armed for no one",
        "I_PROGRESS", ("wait-two-pages-3",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "zone-taken-unlocked", PAGES,
        (("    pfn: Pfn = c.E_NOMEM\n    lock(mem, zone + c.Z_LOCK, claim)\n    if may_take",
          "    pfn = c.E_NOMEM\n    if may_take"),
         ("        pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))\n"
          "    unlock_zone(mem, claim, zone)\n    wake_if_boosted",
          "        pfn = rmqueue(mem, zone, claim, order, gfp_mt(gfp), label(mem, claim))\n"
          "    wake_if_boosted")),
        "an allocation past the lists takes from the zone without its lock",
        "I_LIST_LINKS", ("buddy-alloc-alloc", "buddy"), ("orders", "churn"),
    ),
    Mutant(
        "order-3-not-counted", PCP_LISTS,
        (("    return 1 << order if order < c.PCP_ORDERS else 0\n",
          "    return 1 << order if order < c.PCP_ORDERS - 1 else 0\n"),),
        "blocks of order 3 do not count towards the high mark: their array overflows into that of"
        " the next list",
        "I_PCP_COUNT", ("pcp-orders", "crash:pages-order-3"), ("orders", "churn"),
    ),
    Mutant(
        "list-pop-not-counted", PCP_LISTS,
        (("    mem[pcp + c.P_COUNT] = mem[pcp + c.P_COUNT] - counted_pages(order)\n    leave_list",
          "    leave_list"),),
        "a page that leaves a linked list is still counted: soon the list counts as full for ever",
        "I_PCP_COUNT", ("pcp-linked", "crash:pages-order-0-list"), ("churn",),
        ("--geometry", "pcp=list"),
    ),
    Mutant(
        "refill-past-room", PCP,
        (("    return min(batch << factor, room)\n", "    return batch << factor\n"),),
        "a refill fetches its whole batch although the list has no room for it: single pages go"
        " beyond the high mark, and at last beyond the array",
        "I_PCP_COUNT", ("pcp-orders", "crash:pages-order-0"), ("churn",),
    ),
    Mutant(
        "huge-kept-twice", PCP,
        (("        return mem[pcp + c.P_LENGTH + index] >= c.PCP_HUGE_KEEP\n",
          "        return mem[pcp + c.P_LENGTH + index] > c.PCP_HUGE_KEEP\n"),),
        "a CPU keeps one whole pageblock more than it may",
        "I_PCP_COUNT", ("pcp-pageblocks",), ("orders",),
    ),
    Mutant(
        "high-without-maximum", PCP,
        (("        mem[pcp + c.P_HIGH] = min(mem[pcp + c.P_HIGH] + batch,"
          " mem[pcp + c.P_HIGH_MAX])\n",
          "        mem[pcp + c.P_HIGH] = mem[pcp + c.P_HIGH] + batch\n"),),
        "the high mark grows with each refill and never stops: the array overflows",
        "I_PCP_COUNT", ("pcp-take-take", "pcp"), ("churn",),
    ),
    Mutant(
        "drain-as-pages", PCP,
        (("            free_block(mem, zone, claim, pfn, order)\n            given += 1 << order\n"
          "        else:",
          "            free_block(mem, zone, claim, pfn, 0)\n            given += 1 << order\n"
          "        else:"),),
        "a drain above the high mark gives blocks back as single pages",
        "I_TAIL", ("pcp-orders", "crash:pages-order-1"), ("orders", "churn"),
    ),
    Mutant(
        "huge-in-the-wrong-list", PCP_LISTS,
        (("        return c.PCP_ORDERS * c.MT_PCP_TYPES + mt\n",
          "        return c.PCP_ORDERS * c.MT_PCP_TYPES + mt - 1\n"),),
        "a whole pageblock of the first type is kept on the list of blocks of order 3, one too low",
        "I_PCP_COUNT", ("pcp-pageblocks",), ("orders",),
    ),
    Mutant(
        "last-list-not-drained", PCP,
        (("    for index in range(c.PCP_LISTS):\n        order = pcp_order(mem, index)\n"
          "        pfn = pcp_pop",
          "    for index in range(c.PCP_LISTS - 1):\n        order = pcp_order(mem, index)\n"
          "        pfn = pcp_pop"),),
        "a drain leaves the last list alone: whole pageblocks of one type stay behind",
        "I_TEARDOWN", ("pcp-pageblocks",), ("orders",),
    ),
    Mutant(
        "refill-in-another-zone", PCP,
        (("    zone = zone_at(mem, zone_id)\n    order = pcp_order(mem, index)\n"
          "    mt: Migratetype",
          "    zone = zone_at(mem, 0)\n    order = pcp_order(mem, index)\n    mt: Migratetype"),),
        "the list of a zone is filled from another one: its pages lie on another node",
        "I_PCP_COUNT", ("crash:pages-zones", "pcp-zones"), ("churn",),
    ),
)  # fmt: skip
