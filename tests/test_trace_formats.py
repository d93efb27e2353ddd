"""One small text for each format and each peculiarity of it, and the rows that it becomes."""

from __future__ import annotations

import pytest

from shmalloc.errors import MisuseError
from stress.trace.format import validate
from stress.trace.importing import Imported, import_lines
from stress.trace.tally import LEFT_OUT, OTHER, UNKNOWN

Row = tuple[int, int, int, int]  # kind, id, arg, flag


def imported(text: str, format: str = "auto") -> Imported:
    found = import_lines(text.splitlines(), "t", format)
    validate(found.trace)
    return found


def rows(found: Imported) -> list[Row]:
    columns = (found.trace.kind, found.trace.id, found.trace.arg, found.trace.flag)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def kinds(found: Imported, group: str) -> dict[str, int]:
    return {kind: seen.count for kind, seen in found.tally.seen[group].items()}


# --- the kernel's trace --------------------------------------------------------------------------

MODERN = """\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
            make-4812    [000] .....   913.204101: mm_page_alloc: page=00000000a1b2c3d4 pfn=0x101 \
order=0 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE
            make-4812    [000] .....   913.204117: kmalloc: call_site=pipe_new+0x6c/0x220 \
ptr=000000009c3a1e77 bytes_req=640 bytes_alloc=1024 gfp_flags=GFP_KERNEL node=-1 accounted=true
            make-4812    [001] .....   913.204140: kfree: call_site=pipe_del ptr=000000009c3a1e77
            make-4813    [001] .....   913.204150: mm_page_free: page=00000000a1b2c3d4 pfn=0x101 \
order=0
"""
HEAD = "            make-4812    [000] .....   913.2041{:02}: "


def kernel(*events: str) -> Imported:
    return imported("\n".join(HEAD.format(n) + event for n, event in enumerate(events)))


PAGE = "mm_page_alloc: page=00000000a1b2c3d4 pfn=0x101 order=0 migratetype=0 gfp_flags=GFP_KERNEL"
PAGE_BACK = "mm_page_free: page=00000000a1b2c3d4 pfn=0x101 order=0"
OBJECT = "kmalloc: call_site=f ptr=000000009c3a1e77 bytes_req=60 bytes_alloc=64 gfp_flags=GFP_NOFS"
OBJECT_BACK = "kfree: call_site=f ptr=000000009c3a1e77"


def test_the_trace_of_a_kernel_of_2026_is_read() -> None:
    found = imported(MODERN)
    assert rows(found) == [(0, 0, 0, 1), (2, 1, 1024, 0), (3, 1, 0, 0), (1, 0, 0, 0)]
    assert found.trace.time_ns.tolist() == [0, 16_000, 39_000, 49_000]
    assert found.trace.cpu.tolist() == [0, 0, 1, 1] and found.trace.task.tolist() == [0, 0, 0, 1]


def test_a_free_of_nothing_costs_no_other_line() -> None:
    """Kernels before 4.20 pad a null pointer; it used to lose the whole recording."""
    found = kernel(OBJECT, "kfree: call_site=ffffffff81020202 ptr=          (null)", OBJECT_BACK)
    assert rows(found) == [(2, 0, 64, 0), (3, 0, 0, 0)]
    assert kinds(found, LEFT_OUT) == {"frees of nothing (a null pointer)": 1}


@pytest.mark.parametrize("null", ["(null)", "(nil)", "0000000000000000", "0x0", "      (null)"])
def test_a_null_pointer_is_a_failed_allocation_however_it_is_printed(null: str) -> None:
    found = kernel(OBJECT, OBJECT.replace("000000009c3a1e77", null))
    assert kinds(found, LEFT_OUT) == {"allocations that failed": 1}


@pytest.mark.parametrize("hidden", ["(____ptrval____)", "(efault)", "(einval)"])
def test_an_object_whose_address_is_hidden_is_left_out(hidden: str) -> None:
    found = kernel(PAGE, OBJECT.replace("000000009c3a1e77", hidden))
    assert kinds(found, LEFT_OUT) == {"events whose pointer the kernel did not print": 1}


def test_a_page_is_known_by_its_pfn_if_its_pointer_is_hidden() -> None:
    hidden = PAGE.replace("00000000a1b2c3d4", "(____ptrval____)")
    assert rows(kernel(hidden, PAGE_BACK)) == [(0, 0, 0, 0), (1, 0, 0, 0)]


@pytest.mark.parametrize("failed", ["page=0000000000000000 pfn=0x0", "page=          (null) pfn=0",
                                    "pfn=0xffffffffffffffff", "pfn=-1"])  # fmt: skip
def test_a_block_that_was_not_to_be_had_is_no_allocation(failed: str) -> None:
    found = kernel(OBJECT, PAGE.replace("page=00000000a1b2c3d4 pfn=0x101", failed))
    assert kinds(found, LEFT_OUT) == {"allocations that failed": 1}


def test_the_events_of_2009_are_read() -> None:
    found = imported("""\
  app-1001  [000]  77.100166: mm_page_free_direct: page=ffffea0001a2b3c0 pfn=701100 order=0
  app-1001  [000]  77.100206: mm_page_alloc: page=ffffea0001a2b3c0 pfn=701100 order=0 \
migratetype=0 gfp_flags=GFP_KERNEL
  app-1001  [000]  77.100357: mm_page_free_direct: page=ffffea0001a2b3c0 pfn=701100 order=0
  app-1001  [000]  77.100401: mm_page_alloc: page=ffffea0001a2b3f8 pfn=701101 order=0 \
migratetype=2 gfp_flags=GFP_HIGHUSER_MOVABLE
  app-1001  [000]  77.100402: mm_pagevec_free: page=ffffea0001a2b3f8 pfn=701101 order=0 cold=0
""")
    assert rows(found) == [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 1), (1, 1, 0, 0)]
    assert found.left_out == {"frees of memory allocated before the recording began": 1}
    assert "migratetypes numbered as before Linux 4.4: 1 page allocation" in found.trace.notes


def test_objects_of_2009_have_a_cache_for_each_size() -> None:
    found = kernel("kmem_cache_alloc_node: call_site=ffffffff81101010 ptr=ffff88001 bytes_req=190 "
                   "bytes_alloc=192 gfp_flags=GFP_KERNEL node=0", OBJECT)  # fmt: skip
    assert found.trace.caches.tolist() == ["cache-192", "kmalloc-64"]


@pytest.mark.parametrize(
    ("number", "flags", "type_"),
    [(1, "GFP_HIGHUSER_MOVABLE", 1), (2, "GFP_KERNEL|__GFP_RECLAIMABLE", 2), (4, "GFP_HIGHUSER", 0),
     (3, "GFP_HIGHUSER_MOVABLE", 1), (1, "GFP_TEMPORARY", 2), (2, "0x100cca", 1),
     (1, "0x100cca", 1)],
)  # fmt: skip
def test_every_migratetype_becomes_one_that_has_lists(number: int, flags: str, type_: int) -> None:
    page = PAGE.replace(
        "migratetype=0 gfp_flags=GFP_KERNEL", f"migratetype={number} gfp_flags={flags}"
    )
    assert rows(kernel(page)) == [(0, 0, 0, type_)]


def test_events_that_repeat_others_or_tell_of_lists_are_passed_over() -> None:
    found = kernel(
        PAGE,
        PAGE.replace("mm_page_alloc", "mm_page_alloc_zone_locked"),
        PAGE_BACK,
        "mm_page_free_batched: page=00000000a1b2c3d4 pfn=0x101 order=0",
        "mm_page_pcpu_drain: page=00000000a1b2c3d4 pfn=0x101 order=0 migratetype=0",
        "rss_stat: mm_id=1127226571 curr=1 type=MM_FILEPAGES size=1658880B",
    )
    assert len(found.trace) == 2
    assert list(kinds(found, OTHER)) == [
        "mm_page_alloc_zone_locked events", "mm_page_pcpu_drain events", "rss_stat events",
    ]  # fmt: skip
    assert found.tally.count(LEFT_OUT) == 1


def test_a_name_of_a_cache_may_have_blanks() -> None:
    named = "kmem_cache_alloc: call_site=f+0x1/0x2 [ext4] ptr=1a name=ext4 inode cache bytes_req=8"
    found = kernel(
        f"{named} bytes_alloc=8", "kmem_cache_free: call_site=f ptr=1a name=ext4 inode cache"
    )
    assert (found.trace.caches.tolist(), len(found.trace)) == (["ext4 inode cache"], 2)


def test_a_damaged_event_is_told_with_what_it_lacks() -> None:
    found = kernel(PAGE, "mm_page_alloc: page=00000000a1b2", "kfree: call_site=f")
    assert list(kinds(found, LEFT_OUT)) == [
        "mm_page_alloc without pfn=",
        "the free of an object without ptr=",
    ]


@pytest.mark.parametrize(
    "number", ["0" * 21 + "1", "99999999999999999999", "0x1ffffffffffffffff", "-7"]
)
def test_a_number_that_is_too_large_is_told(number: str) -> None:
    found = kernel(OBJECT, PAGE_BACK.replace("0x101", number))
    assert (len(found.trace), found.tally.count(LEFT_OUT)) == (1, 1)


@pytest.mark.parametrize("task", ["<idle>-0", "<...>-123", "a b-c-17", "x: kfree: y-9", "[000]-5",
                                  "a-1 [000]-23", "kworker/0:1-events-9"])  # fmt: skip
def test_names_of_tasks_may_hold_anything(task: str) -> None:
    text = f"{task:>16}    [001] .....   913.204140: {OBJECT}"
    assert rows(imported(text)) == [(2, 0, 64, 0)]


def test_a_clock_without_a_unit_is_told() -> None:
    found = imported(
        f"  a-1 [000] ..... 913204117000: {OBJECT}\n  a-1 [000] ..... 913204117900: {PAGE}"
    )
    assert found.trace.time_ns.tolist() == [0, 900]
    assert "the clock of the text has no unit: a tick is taken as 1 ns" in found.trace.notes


def test_lost_events_are_counted_for_each_cpu() -> None:
    found = imported(f"CPU:3 [LOST 17 EVENTS]\n{HEAD.format(1)}{PAGE}\nCPU:0 [LOST EVENTS]\n"
                     "CPU:3 [2 EVENTS DROPPED]\nCPU:1 [EVENTS DROPPED]")  # fmt: skip
    assert found.lost == {3: 19, 0: 1, 1: 1}
    assert "LOST: 19 events of CPU 3; pairs across the gap may be wrong" in list(found.report())


def test_a_line_without_a_time_is_no_event_among_others() -> None:
    found = imported(
        f"{HEAD.format(1)}{PAGE}\nkfree: call_site=f ptr=1a\n{HEAD.format(2)}{PAGE_BACK}"
    )
    assert (len(found.trace), found.tally.count(UNKNOWN)) == (2, 1)


def test_a_full_buffer_of_a_cpu_without_events_ends_nothing() -> None:
    mark = "# shmstress: the buffer of CPU 9 was full, 3 events were dropped"
    assert len(imported(f"{HEAD.format(1)}{PAGE}\n{mark}").trace) == 1


def test_stacks_and_functions_between_the_events_are_passed_over() -> None:
    found = imported(f"""\
{HEAD.format(1)}{PAGE}
{HEAD.format(2)}<stack trace>
 => kfree
 => do_syscall_64
{HEAD.format(3)}kfree <-vm_area_free
##### CPU 1 buffer started ####
""")
    assert found.tally.count(UNKNOWN) == 0 and len(found.trace) == 1


# --- order ---------------------------------------------------------------------------------------


def test_files_of_several_cpus_one_after_the_other_are_sorted_by_time() -> None:
    found = imported(f"""\
  a-1 [001] .....   2.000000: {OBJECT_BACK}
  a-1 [000] .....   1.000000: {OBJECT}
  a-1 [000] .....   3.000000: {PAGE}
""")
    assert [row[0] for row in rows(found)] == [2, 3, 0]
    assert "sorted by time, since times of different CPUs go back: 1 times" in found.trace.notes


def test_where_times_of_one_cpu_go_back_the_order_of_the_lines_is_kept() -> None:
    """``perf script --deltatime``, or two recordings in one file."""
    found = imported(f"""\
  a-1 [000] .....   2.000000: {OBJECT}
  a-1 [000] .....   0.000001: {OBJECT_BACK}
""")
    assert rows(found) == [(2, 0, 64, 0), (3, 0, 0, 0)]
    assert found.trace.time_ns.tolist() == [0, 0]


def test_an_allocation_over_a_living_one_leaves_the_first_unfreed() -> None:
    found = kernel(PAGE, PAGE, PAGE_BACK, PAGE_BACK)
    assert [row[:2] for row in rows(found)] == [(0, 0), (0, 1), (1, 1)]
    assert found.left_out == {"frees of memory that is free already": 1}
    assert "allocations never freed, since the free has no event: 1" in found.trace.notes


def test_a_free_in_other_pieces_is_left_out_and_the_block_stays() -> None:
    found = kernel(PAGE, PAGE_BACK.replace("order=0", "order=1"), PAGE_BACK)
    assert (len(found.trace), found.left_out) == (2, {"frees in other pieces than allocated": 1})


def test_more_cpus_than_can_be_replayed_share() -> None:
    lines = (
        f"  a-1 [{cpu:03}] .....   {cpu}.000000: {PAGE.replace('101', f'{cpu:x}')}"
        for cpu in range(70)
    )
    found = imported("\n".join(lines))
    assert len(found.trace.cpus) == 62
    assert "70 CPUs were recorded, 62 can be replayed: some share one" in found.trace.notes


# --- other tools ---------------------------------------------------------------------------------


def test_a_report_of_trace_cmd_is_read() -> None:
    found = imported("""\
version = 6
cpus=2
            make-4812  [000]   913.204101: mm_page_alloc:        page=0xa1b2c3d4 pfn=0x101 order=0 \
migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE
            make-4812  [001]2633286531485: kfree:                (f+0x3) call_site=f ptr=(nil)
CPU:1 [238 EVENTS DROPPED]
            make-4812  [000]   913.204102: mm_page_free:         [FAILED TO PARSE] pfn=257 order=0
""")
    assert (found.format, rows(found)) == ("trace-cmd", [(0, 0, 0, 1), (1, 0, 0, 0)])
    assert (found.tally.count(UNKNOWN), found.lost) == (0, {1: 238})


def test_perf_script_is_read_with_its_callchains() -> None:
    found = imported("""\
# ========
# captured on    : Sun Nov 29 01:00:53 2026
Web Content 13957 [001]   976.794373:      kmem:kmalloc: call_site=f+0x10c ptr=0xffff888104445ba0 \
bytes_req=32 bytes_alloc=32 gfp_flags=GFP_KERNEL node=-1 accounted=false
\tffffffff81636e0d __kmalloc_cache_node_noprof+0x20d ([kernel.kallsyms])
\t           ee137 sched_setaffinity@@GLIBC_2.3.4+0x7 (/usr/lib/x86_64-linux-gnu/libc.so.6)

  swapper     0 [000]   976.794380: PERF_RECORD_LOST lost 12
   :13957 13957/13958 [000]   976.794400123:          1 kmem:kfree: ptr=0xffff888104445ba0
""")
    assert (found.format, rows(found)) == ("perf", [(2, 0, 32, 0), (3, 0, 0, 0)])
    assert (found.trace.time_ns.tolist(), found.lost) == ([0, 27_123], {0: 12})
    assert found.tally.count(UNKNOWN) == 0


def test_function_graph_has_its_events_in_comments() -> None:
    found = imported("""\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 ------------------------------------------
 1)  migrat-11    =>  make-4812
 ------------------------------------------

 1)               |  kfree() {
 1)               |    /* kfree: call_site=f ptr=00000000bb3a1714 */
 1)   1.280 us    |  }
 1)               |  /* kmalloc: call_site=f ptr=00000000bb3a1714 bytes_req=60 bytes_alloc=64 */
 0) + 10.123 us   |  exit_mmap();
 0)               |  /* kfree: call_site=f ptr=00000000bb3a1714 */
""")
    assert (found.format, rows(found)) == ("function_graph", [(2, 0, 64, 0), (3, 0, 0, 0)])
    assert found.trace.cpu.tolist() == [1, 0] and found.tally.count(UNKNOWN) == 0
    assert any("no times" in note for note in found.trace.notes)


def test_a_rep_file_has_a_header_and_three_operations() -> None:
    found = imported("20000\n3\n6\n1\na 0 512\na 1 9000\nr 0 640\nf 1\nf 0\nf -1\n")
    first = [(2, 0, 512, 0), (0, 1, 2, 0), (3, 0, 0, 0), (2, 2, 1024, 1)]
    assert rows(found) == [*first, (1, 1, 2, 0), (3, 2, 0, 1)]
    assert found.trace.caches.tolist() == ["malloc-512", "malloc-1024"]
    assert kinds(found, OTHER) == {"comments and headers": 4}


def test_a_rep_file_may_do_without_a_header() -> None:
    found = imported("a 1 64\na 2 128\nf 1\nr 2 256\nf 2\n")
    assert [row[:2] for row in rows(found)] == [(2, 0), (2, 1), (3, 0), (3, 1), (2, 2), (3, 2)]


def test_an_allocation_above_4_mib_is_one_of_4_mib() -> None:
    found = imported("a 0 4194304\na 1 4194305\n")
    assert [row[2] for row in rows(found)] == [10, 10]
    assert "allocations above 4 MiB, one block of 4 MiB each: 1" in found.trace.notes


def test_mtrace_is_read() -> None:
    found = imported("""\
= Start
@ ./a.out:(main+0x1d)[0x4011ad] + 0x55d2a4e6a6b0 0x18
@ ./a.out:[0x4011c4] < 0x55d2a4e6a6b0
@ ./a.out:[0x4011c4] > 0x55d2a4e6a6d0 0x40
+ 0x55d2a4e6b000 0x18
- 0x55d2a4e6a6d0
@ ./a.out:[0x4011d0] ! 0x55d2a4e6a6d0 0xffffffffffff
= End
""")
    kinds_and_ids = [row[:2] for row in rows(found)]
    assert kinds_and_ids == [(2, 0), (3, 0), (2, 1), (2, 2), (3, 1)]
    assert kinds(found, LEFT_OUT) == {"reallocations that failed": 1}


def test_a_table_names_its_columns_in_any_order() -> None:
    found = imported("""\
cpu;time_us;Op;bytes;order;id;migratetype;cache;colour
0;1;alloc;60;;0x10;;;red
1;2.5;page_alloc;;3;b1;movable;;blue
0;4;free;;;0x10;;;red
1;5;kmalloc;200;;c;;dentry;
1;6;free;;;b1;;;
""")
    assert rows(found) == [(2, 0, 64, 0), (0, 1, 3, 1), (3, 0, 0, 0), (2, 2, 200, 1), (1, 1, 3, 0)]
    assert found.trace.time_ns.tolist() == [0, 1500, 3000, 4000, 5000]
    assert found.trace.caches.tolist() == ["kmalloc-64", "dentry"]
    assert "columns that mean nothing here: colour" in found.trace.notes


@pytest.mark.parametrize(
    "row",
    ["alloc,1,0,x", "fre,1,0,64", "alloc,1e999999999,0,64", "alloc,nan,0,1", "free,1,0,",
     "alloc,1,0,", "alloc", "alloc,1,99999999,64"],
)  # fmt: skip
def test_a_row_that_means_nothing_is_told(row: str) -> None:
    found = imported(f"op,time,cpu,bytes\nalloc,0,0,64\n{row}\n")
    assert len(found.trace) == 1
    assert found.tally.count(LEFT_OUT) + found.tally.count(UNKNOWN) == 1


# --- what is no recording ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "hello\nworld\n", "{}", "\n\n\n", "1\n2\n3\n"])
def test_a_text_of_something_else_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(MisuseError, match=r"^trace: t: no format is known by its first"):
        imported(text)


def test_a_recording_without_an_event_is_refused_with_what_was_seen() -> None:
    with pytest.raises(
        MisuseError, match=r"no usable event in 2 lines read as ftrace \(1 frees of memory"
    ):
        kernel(PAGE_BACK, "sched_switch: prev_comm=a")


def test_lines_of_another_kind_are_counted_by_their_shape_and_the_first_is_shown() -> None:
    found = imported(f"{HEAD.format(1)}{PAGE}\nrandom 17\nrandom 23\nother")
    assert list(found.report())[-2:] == [
        "not understood: 2 lines, first in line 2: random 17",
        "not understood: 1 line, first in line 4: other",
    ]


def test_kinds_of_lines_are_bounded() -> None:
    noise = "\n".join(f"{chr(97 + n % 26) * (n // 26 + 1)}" for n in range(500))
    found = imported(f"{HEAD.format(1)}{PAGE}\n{noise}")
    assert found.tally.count(UNKNOWN) == 500 and len(found.tally.seen[UNKNOWN]) <= 25


def test_a_line_cannot_act_on_the_terminal() -> None:
    found = imported(f"{HEAD.format(1)}{PAGE}\n\x1b[31mred\x07\r\n")
    assert "\x1b" not in "".join(found.report())
