"""Words of a quiet segment that were overwritten: the audits say where. docs/corruption.md has all.

A few words of each kind here, every word in ``tox -e corruption``.
"""

import pytest

from shmalloc import constants as c
from shmalloc.errors import KernelFault
from shmalloc.kernels.audit import audit
from support.busy_segment import BusySegment
from support.corruption import BEGIN, END, Corruption, Tally, Watch, refreshed, table
from support.word_classes import FIXED_HEADER, RULES

# Words of the header that follow from nothing else in it: only the geometry's text tells.
ALONE = {c.H_MAGIC, c.H_VERSION, c.H_DIGEST, c.H_OWNER_PID, c.H_OWNER_START, c.H_SPINS, c.H_FILL,
         c.H_HARDEN, c.H_OWNER_NAMESPACE, c.H_SEGMENT_ID, c.H_MADE_S, c.H_AT_LATENCY,
         c.H_OWNER_MAP}  # fmt: skip


@pytest.fixture(scope="module")
def busy():
    with BusySegment(poison=True, harden=0x1234567) as segment:
        yield segment


@pytest.fixture(scope="module")
def corruption(busy):
    return Corruption(busy, 7, Watch())


def test_a_busy_segment_is_healthy_and_has_words_of_every_kind_but_those_of_other_stores(
    busy, corruption
):
    assert busy.audit() == []
    others = {
        "pcp-head",
        "table-link",
        "table-rest",
        "index-entry",
        "index-rest",
        "bitmap-entry",
        "bitmap-rest",
    }
    assert set(RULES) - set(corruption.kinds) == others


def test_every_changed_word_that_means_something_now_is_reported_with_its_place(busy, corruption):
    tally = corruption.run(each=4, others=1)
    assert tally.silent == []
    assert tally.tried.total() > 800
    assert busy.audit() == []


@pytest.mark.parametrize("store", ["index", "bitmap"])
def test_every_changed_entry_of_a_store_without_lists_is_reported(store):
    with BusySegment("native", link_store=store) as segment:
        kinds = (f"{store}-entry", "free", "zone-fixed", "fixed")
        assert Corruption(segment, 5, Watch()).run(each=6, others=0, kinds=kinds).silent == []


def test_interpreted_audits_report_the_same():
    with BusySegment("interpreted", pcp_form="list", link_store="table") as segment:
        kinds = ("pcp-head", "entry")
        assert Corruption(segment, 3, Watch()).run(each=1, others=0, kinds=kinds).silent == []


@pytest.mark.parametrize("value", [-1, 0, 1 << 40])
def test_a_kernel_that_audits_follows_no_offset_of_a_broken_header(busy, value):
    for word in FIXED_HEADER - ALONE:
        old = busy.ram[word]
        if old != value:
            busy.ram[word] = value
            try:
                assert busy.call(audit, 0) != 0, word
            except KernelFault as fault:
                pytest.fail(f"word {word}: {fault}")
            finally:
                busy.ram[word] = old
                busy.forget_reports()


def test_a_silent_corruption_is_told_by_the_table_and_by_its_line(busy, corruption, monkeypatch):
    monkeypatch.setattr(busy, "audit", list)
    tally = corruption.run(each=1, others=0, kinds=("locks", "fixed"))
    assert len(tally.silent) == tally.tried.total() > 0
    assert "**0.0%**" in table(tally)


def test_the_table_of_a_page_is_replaced_between_its_marks():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert refreshed(page, table(Tally())).startswith(f"before\n{BEGIN}\n\n| region")
    assert refreshed(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
