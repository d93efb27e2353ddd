"""page_owner of an arena: who allocated what, in Linux's columns, from this and other processes."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading

import pytest

from shmalloc import Arena, Gfp, MisuseError, ZoneSpec
from shmalloc import constants as c
from shmalloc.page_owner import PageOwner
from stress import cli
from support import sampled_arena
from support.sampled_arena import take_four_pages

PARAGRAPH = re.compile(
    r"Page allocated via order (\d+), mask 0x([0-9a-f]+)\((\w+)\), pid (\d+), tgid (\d+)"
    r" \(([^)]{0,15})\), ts (\d+) ns\n"
    r"PFN 0x([0-9a-f]+) type (\w+) Block (\d+) type (\w+) Flags 0x([0-9a-f]+)\(([^)]+)\)\n"
    r"((?: .+\n)*)\n"
)
STACK = re.compile(r"((?: .+\n)*)nr_base_pages: (\d+)\n\n")
FRAME = re.compile(r"^ ?(\S+) \((.+):(\d+)\)$")
WATCHDOG_S = 60.0


@pytest.fixture
def arena():
    shape = {"size": "1MiB", "cpus": 2, "pageblock_order": 6, "engine": "interpreted"}
    with Arena.create(page_owner="1/1", **shape) as made:
        yield made


def owner_of(arena):
    words = arena.segment.ram.array
    return PageOwner(arena.segment.layout, lambda first, count: words[first : first + count])


def paragraphs(text):
    assert PARAGRAPH.sub("", text) == ""
    return PARAGRAPH.findall(text)


def functions(stack):
    return [FRAME.match(line)[1] for line in stack]


def test_a_block_is_a_paragraph_as_linux_prints_it(arena):
    pfn = arena.alloc_pages(order=3, migratetype="movable")
    (found,) = (one for one in paragraphs(arena.page_owner()) if int(one[7], 16) == pfn)
    order, mask, names, pid, tgid, _, ts_ns, _, kind, block, block_kind, _, flags, stack = found
    assert (order, mask, names, kind) == ("3", "1", "Movable", "Movable")
    assert (int(pid), int(tgid)) == (threading.get_native_id(), os.getpid())
    assert int(block) == pfn >> arena.geometry.pageblock_order and block_kind == "Movable"
    assert flags == "allocated|node=0|zone=0" and int(ts_ns) > 0
    assert functions(stack.splitlines())[0] == "test_a_block_is_a_paragraph_as_linux_prints_it"


def test_a_stack_begins_with_the_caller_and_has_no_frame_of_the_package(arena):
    sample = owner_of(arena).of_page(take_four_pages(arena))
    assert functions(sample.stack)[:2] == [
        "take_four_pages",
        "test_a_stack_begins_with_the_caller_and_has_no_frame_of_the_package",
    ]
    assert len(sample.stack) == 16 and not any("/shmalloc/bound.py" in f for f in sample.stack)


def test_every_page_of_a_block_leads_to_it_and_no_other_page(arena):
    pfn = take_four_pages(arena)
    owner = owner_of(arena)
    assert [owner.of_page(at).where for at in range(pfn, pfn + 4)] == [pfn] * 4
    assert owner.of_page(pfn + 4) is None


def test_what_was_freed_is_not_shown(arena):
    pfn = take_four_pages(arena)
    arena.free_pages(pfn, 2)
    assert owner_of(arena).of_page(pfn) is None


def test_an_allocation_that_is_not_sampled_takes_the_entry_of_the_one_before_away(arena):
    pfn = take_four_pages(arena)
    arena.free_pages(pfn, 2)
    chances = arena.segment.layout.at["page_owner"] + c.PO_CHANCES
    arena.segment.ram.array[chances : chances + c.ORDERS] = 0
    assert take_four_pages(arena) == pfn and owner_of(arena).of_page(pfn) is None


@pytest.mark.parametrize("what", ["bulk", "contig", "kmalloc of pages", "array", "run of blocks"])
def test_every_way_to_take_pages_is_sampled(arena, what):
    taken = {
        "bulk": lambda: arena.alloc_pages_bulk(3),
        "contig": lambda: arena.alloc_contig_range(128, 131),
        "kmalloc of pages": lambda: arena.kmalloc(3 * 4096),
        "array": lambda: arena.zeros(5000),
        "run of blocks": lambda: arena.zeros(300_000, "u1"),
    }
    before = {one.where for one in owner_of(arena).samples()}
    held = taken[what]()
    new = [one for one in owner_of(arena).samples() if one.where not in before]
    assert new and held is not new
    test = "test_every_way_to_take_pages_is_sampled"
    assert all(test in "".join(functions(one.stack)) for one in new)


def test_objects_are_shown_by_cache_and_stack(arena):
    cache = arena.cache("nodes", 40)
    held = [cache.alloc() for _ in range(3)]
    cache.free(held.pop())
    name, first, *frames = arena.alloc_traces().splitlines()
    assert name == "nodes:"
    assert re.fullmatch(r" {6}2 \S+ \(.+:\d+\) age=\d+(/\d+/\d+)? pid=\d+ cpus=0", first)
    assert all(line.startswith(" " * 8) for line in frames if line)


def test_stacks_are_added_up_in_base_pages_most_first(arena):
    held = [take_four_pages(arena) for _ in range(3)]
    found = [(functions(stack.splitlines()), n) for stack, n in STACK.findall(arena.show_stacks())]
    assert STACK.sub("", arena.show_stacks()) == ""
    assert (found[0][0][0], found[0][1]) == ("take_four_pages", str(4 * len(held)))
    assert [int(n) for _, n in found] == sorted((int(n) for _, n in found), reverse=True)


def test_a_stack_is_saved_once(arena):
    handles = {owner_of(arena).of_page(take_four_pages(arena)).handle for _ in range(5)}
    assert len(handles) == 1 and 0 not in handles


def test_threads_get_stacks_of_their_own(arena):
    def first():
        return arena.alloc_pages()

    def second():
        return arena.alloc_pages()

    pfns = {first: [], second: []}

    def work(take):
        pfns[take] += [take() for _ in range(40)]

    threads = [threading.Thread(target=work, args=(take,)) for take in pfns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG_S)
        assert not thread.is_alive(), "a thread still allocates"
    owner = owner_of(arena)
    for take, mine in pfns.items():
        assert {functions(owner.of_page(pfn).stack)[0] for pfn in mine} == {take.__qualname__}
        assert len({owner.of_page(pfn).thread for pfn in mine}) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_is_read_while_it_lives_and_after_it_was_killed(method):
    def holders():
        sites = arena.leak_report().sites
        return [str(one) for s in sites if "take_four_pages" in s.stack[0] for one in s.holders]

    with Arena.create(size="1MiB", cpus=2, page_owner="1/1") as arena:
        start = multiprocessing.get_context(method)
        ours, theirs = start.Pipe()
        child = start.Process(target=sampled_arena.take_and_stay, args=(arena, theirs))
        child.start()
        try:
            assert ours.poll(WATCHDOG_S), "the child did not say what it allocated"
            pid, pfn = ours.recv()
            sample, alive = owner_of(arena).of_page(pfn), holders()
        finally:
            child.kill()
            child.join(WATCHDOG_S)
        assert child.exitcode is not None, "the child was killed and did not end"
        assert owner_of(arena).of_page(pfn).stack == sample.stack
        assert (alive, holders()) == ([f"pid {pid} (alive)"], [f"pid {pid} (dead)"])
    assert (sample.pid, functions(sample.stack)[0]) == (pid, "take_four_pages")


def test_what_is_handed_over_is_held_by_the_process_that_adopted_it():
    with (
        Arena.create(size="1MiB", cpus=2, page_owner="1/1", engine="interpreted") as arena,
        Arena.attach(arena.name, engine="interpreted") as other,
    ):
        pfn, address = take_four_pages(arena), arena.cache("nodes", 40).alloc()
        other.adopt_pages(pfn, 2, giver=arena.life)
        other.open_cache("nodes").adopt(address, arena.life)
        samples = [owner_of(arena).of_page(pfn), owner_of(arena).of_object(address)]
        assert [(one.claim, one.adopted) for one in samples] == [(other.claim, True)] * 2
        assert functions(samples[0].stack)[0] == "take_four_pages"


def test_a_call_site_is_told_as_a_whole_and_then_in_its_parts(arena):
    def load(order):
        return arena.alloc_pages(order)

    held = [load(order) for order in (2, 2, 2, 0)]
    site = next(one for one in arena.leak_report().sites if "load" in one.stack[0])
    assert (site.count, site.pages, site.bytes, site.sampled) == (4, 13, 13 * 4096, len(held))
    holder = f"held by pid {os.getpid()} (alive)"
    head, *parts = str(site).splitlines()[:3]
    assert re.sub(r"[\d.]+ s old", "0 s old", head) == (
        "52KiB, 13 pages, in 4 allocations (4 sampled), the oldest 0 s old"
    )
    assert parts == [
        f"  3 blocks of order 2, 48KiB, {holder}",
        f"  1 block of order 0, 4KiB, {holder}",
    ]


def test_objects_and_arrays_have_names_of_their_own_in_a_leak_report(arena):
    held = arena.cache("nodes", 40).alloc(), arena.zeros(10)
    told = [part.told for site in arena.leak_report().sites for part in site.parts]
    assert held and "1 object of cache nodes" in told
    assert "1 block of an array, of order 0" in told


def test_the_flags_of_a_page_name_its_node():
    zones = [ZoneSpec(256, node=1), ZoneSpec(256, node=0)]
    options = {"page_owner": "1/1", "engine": "interpreted"}
    with Arena.create(zones=zones, cpus=1, pageblock_order=6, **options) as arena:
        arena.alloc_pages(flags=Gfp.THISNODE)
        assert "(allocated|node=0|zone=1)" in arena.page_owner()
        while "node=1" not in arena.page_owner():
            arena.alloc_pages()
        assert "(allocated|node=1|zone=0)" in arena.page_owner()


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (("page_owner",), "page_owner"),
        (("page_owner", "--stacks"), "show_stacks"),
        (("page_owner", "--objects"), "alloc_traces"),
        (("leaks",), "leak_report"),
    ],
)
def test_a_command_prints_the_same_of_another_process_s_segment(arena, capsys, command, method):
    held = take_four_pages(arena), arena.cache("nodes", 40).alloc()
    assert cli.run((command[0], arena.name, *command[1:])) == 0
    shown = re.sub(r"[\d.]+ s old|age=\S+", "", capsys.readouterr().out).rstrip("\n")
    known = re.sub(r"[\d.]+ s old|age=\S+", "", str(getattr(arena, method)())).rstrip("\n")
    assert held and shown == known != ""


def test_a_segment_that_does_not_sample_says_what_to_do(capsys):
    with Arena.create(size="1MiB", cpus=1, engine="interpreted") as arena:
        with pytest.raises(MisuseError, match="create it with page_owner='1/64'"):
            arena.leak_report()
        assert cli.run(("leaks", arena.name)) == 4
    assert "page_owner='1/64'" in capsys.readouterr().err


def test_where_nothing_is_sampled_no_call_is_wrapped_and_no_word_is_taken():
    with Arena.create(size="1MiB", cpus=1) as arena:
        at, ram = arena.segment.layout.at, arena.segment.ram
        assert at["page_owner"] == at["stacks"] == at["structures"]
        assert (ram[c.H_WATCHED], ram[c.H_AT_PAGE_OWNER]) == (0, 0)
        assert type(arena._do_alloc_pages).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize("given", ["1/0", "2/3", "64", 64, True, "1/1048577", None])
def test_a_rate_is_one_in_so_many(given):
    with pytest.raises(MisuseError, match=r"page_owner: .*; use a form like '1/64'"):
        Arena.create(size="1MiB", page_owner=given)


def entry_of(arena, pfn):
    """Where the entry of a sampled page begins."""
    layout = arena.segment.layout
    first = layout.at["page_owner"] + c.PO_KEYS + arena.geometry.page_owner_entries
    entries = range(first, first + arena.geometry.page_owner_entries * c.PE_STRIDE, c.PE_STRIDE)
    proof = layout.descriptor(pfn)
    return next(at for at in entries if arena.segment.ram[at + c.PE_PROOF] == proof)


def test_an_entry_that_another_claim_takes_behind_our_swap_keeps_its_thread(arena, monkeypatch):
    ram = arena.segment.ram
    entered = []

    def enter_and_lose(claim, entry, *values):
        entered.append(enter(claim, entry, *values))
        ram[entry + c.PE_THREAD] = 4711  # of who has allocated the page meanwhile
        return entered[-1]

    enter = arena._sites._enter
    monkeypatch.setattr(arena._sites, "_enter", enter_and_lose)
    pfn = take_four_pages(arena)
    assert entered == [1]
    assert ram[entry_of(arena, pfn) + c.PE_THREAD] == 4711


def test_an_entry_that_another_claim_took_meanwhile_gets_no_stack_of_ours(arena):
    pfn = take_four_pages(arena)
    ram = arena.segment.ram
    last = arena.segment.layout.cpu(arena.claim) + c.C_OWNER_LAST
    entry = entry_of(arena, pfn)
    ram[entry + c.PE_STACK] = 5 << 32  # a later allocation, of another life, without a stack yet
    ram[entry + c.PE_LIFE] += 1
    ram[last] = entry
    thread = ram[entry + c.PE_THREAD]
    ram[entry + c.PE_THREAD] = thread + 1
    arena._sites.look(arena.claim)
    assert ram[entry + c.PE_STACK] == 5 << 32
    assert ram[entry + c.PE_THREAD] == thread + 1
