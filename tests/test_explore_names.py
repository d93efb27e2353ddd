"""Programs that name their words, values and codes: what is refused, and where the names appear."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shmalloc import constants as c
from shmalloc import kernel
from shmalloc.errors import CorruptionError, MisuseError
from shmalloc.invariants import TABLE
from shmalloc.words import cas, cas2, load, store
from stress import Program, explore
from stress.explorer.report.document import document
from stress.explorer.report.naming import Naming, transition
from stress.machine.names import Finding
from stress.programs import PROGRAMS
from stress.programs.initial_state import InitialState
from support import failures


@kernel
def toggle(mem, cpu):
    old = load(mem, 4)
    store(mem, 4, old + 1)
    return old


@kernel
def swap(mem, cpu):
    cas2(mem, 6, 0, 0, 1, 1)
    cas(mem, 4, 0, 5)


@kernel
def is_two(mem):
    return 0 if mem[4] == 2 else 3


def failed(kernels=(toggle, toggle), **names):
    program = Program("toggles", 8, list(kernels), check=is_two, **names)
    return explore(program, engine="interpreted", strategy="dfs", races=False).failure


# --- what is refused -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["head"]}, "names: .*use a dict such as"),
        ({"names": {"head": "tail"}}, "names: 'head': 'tail'; use a word's index and its name"),
        ({"names": {True: "head"}}, "names: True: 'head'; use a word's index"),
        ({"names": {8: "head"}}, "names: word 8 is 'head'; use words 0 to 7"),
        ({"names": {-1: "head"}}, "names: word -1 is 'head'; use words 0 to 7"),
        ({"names": {0: "head", "first": 0}}, "word 0 is both 'head' and 'first'; use one name"),
        ({"names": {0: "two\nlines"}}, "names: word 0 is called .*; use one line of text"),
        ({"names": {0: "\x1b[31mred"}}, "names: word 0 is called .*; use one line of text without"),
        ({"names": {0: "nul\0"}}, "names: word 0 is called .*; use one line of text without"),
        ({"names": {0: "half \ud800"}}, "names: word 0 is called .*; use one line of text without"),
        ({"names": {0: "\u202etfel"}}, "names: word 0 is called .*; use one line of text without"),
        ({"names": {0.0: "head"}}, "names: 0.0: 'head'; use a word's index and its name"),
        ({"names": {0: " "}}, "names: word 0 is called ' '; use one line of text"),
        ({"word_name": "head"}, r"word_name: 'head'; use a function \(index\) -> str"),
        ({"word_name": lambda i: i}, r"word_name\(0\) returned 0; return a str, '' for no name"),
        ({"word_name": ["head"].__getitem__}, r"word_name\(7\): IndexError: .*; return ''"),
        ({"value_name": lambda i: ""}, r"value_name\(0, 0\): TypeError: .*; return ''"),
        ({"pair_name": lambda i: ""}, r"pair_name\(0, 0, 0\): TypeError: .*; return ''"),
        ({"code_name": {2: "two"}.__getitem__}, r"code_name\(1\): KeyError: 1; return ''"),
        ({"findings": 3}, r"findings: 3; use a function \(memory\) -> list of Finding"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_the_cure(given, words):
    with pytest.raises(MisuseError, match=words):
        Program("toggles", 8, [toggle], **given)


def test_a_function_that_fails_later_is_named_when_it_does():
    naming = Naming(Program("toggles", 8, [toggle], word_name=lambda i: {0: "a", 7: "b"}[i]))
    with pytest.raises(MisuseError, match=r"word_name\(3\): KeyError: 3; return ''"):
        naming.word(3)


def test_a_dictionary_names_words_in_either_direction():
    naming = Naming(Program("toggles", 8, [toggle], names={0: "head", "tail": 2}))
    assert [naming.place(index) for index in (0, 1, 2)] == ["head", "[1]", "tail"]


def test_an_index_may_be_a_number_of_numpy():
    naming = Naming(Program("toggles", 8, [toggle], names={np.int64(0): "a", "b": np.uint8(2)}))
    assert [naming.place(index) for index in (0, 1, 2)] == ["a", "[1]", "b"]


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (lambda memory: 1 // 0, "findings: ZeroDivisionError: .*; return a list, empty if"),
        (lambda memory: None, "findings returned None; return a list of Finding"),
        (lambda memory: [3], r"findings returned \[3\]; return a list of Finding"),
    ],
)
def test_findings_that_fail_are_named_when_they_do(findings, words):
    with pytest.raises(MisuseError, match=words):
        failed(findings=findings)


def test_a_function_names_the_words_that_the_dictionary_leaves_out():
    program = Program("x", 8, [toggle], names={0: "head"}, word_name=lambda i: f"slot {i}")
    assert [Naming(program).place(index) for index in (0, 3)] == ["head", "slot 3"]


# --- where they appear ---------------------------------------------------------------------------
def test_a_word_without_a_name_is_its_index_and_a_named_one_is_its_name():
    assert "load [4] = 0" in failed().report(160)
    text = failed(names={4: "toggle switch"}).report(160)
    assert "load toggle switch = 0" in text and "load [4]" not in text
    assert "cpu 0's load of toggle switch." in text


def test_a_value_with_a_meaning_shows_what_it_becomes():
    failure = failed(names={4: "light"}, value_name=lambda i, v: "off" if v == 0 else f"on {v}")
    assert "load light = off" in failure.report(160)
    assert "store light: off -> on 1" in failure.report(160)
    assert "memory at the end: light = on 1" in failure.report(160)


def test_a_swap_shows_both_words_as_one_value():
    failure = failed((swap, swap), pair_name=lambda i, low, high: f"pair {low} of {high}")
    assert "cas2 [6, 7]: pair 0 of 0 -> pair 1 of 1" not in failure.report(160)  # no name, no colon
    assert "cas2 [6, 7] pair 0 of 0 -> pair 1 of 1" in failure.report(160)
    assert "cas [4] 0 -> 5" in failure.report(160)
    assert "cas [4] failed, found 5" in failure.report(160)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "FREE order 1 zone 0 MOVABLE v3",
            "ALLOCATED order 1 zone 0 MOVABLE v4 owner 7",
            "FREE order 1 zone 0 MOVABLE v3 -> ALLOCATED v4 owner 7",
        ),
        ("FREE order 1 v3", "FREE order 0 v4", "FREE order 1 v3 -> FREE order 0 v4"),
        ("free", "held by cpu 1", "free -> held by cpu 1"),
        ("free", "free", "free, unchanged"),
    ],
)
def test_a_transition_leaves_out_what_stays(before, after, said):
    assert transition(before, after) == said


def test_a_code_with_a_name_is_said_in_the_headline_and_with_its_sentence():
    failure = failed(code_name={3: "LOST: every toggle counts"}.get)
    assert failure.headline == "toggles: check 3 LOST"
    assert "The check returned 3 when all CPUs were done: LOST: every toggle counts." in (
        failure.cause
    )


def test_findings_are_told_once_each_and_grouped_by_what_is_violated():
    told = [(3, "LOST: x", "at a"), (3, "LOST: x", "at b"), (4, "TWICE", "at c")]
    found = [Finding(*one) for one in (*told, told[0])]
    lines = failed(findings=lambda memory: found).cause.splitlines()
    assert lines[1:3] == ["  LOST: x: at a; at b", "  TWICE: at c"]


def test_the_json_has_names_and_meanings_as_fields_of_their_own():
    program = Program(
        "toggles",
        8,
        [toggle, toggle],
        check=is_two,
        names={4: "light"},
        value_name=lambda i, v: "off" if v == 0 else "on",
    )
    result = explore(program, engine="interpreted", strategy="dfs", races=False)
    data = json.loads(json.dumps(document(result)))
    assert data["world"] == "2 CPUs, 8 words"
    writes = [step for step in data["failure"]["steps"] if step["op"] == "store"]
    assert writes[0] | {"name": "light", "word": 4, "found": [0], "left": [1]} == writes[0]
    assert writes[0]["means"] == {"found": "off", "left": "on"}
    assert data["failure"]["at_stake"] == [{"word": 4, "name": "light"}]


def test_the_page_has_the_names():
    page = failed(names={4: "light switch"}).html()
    assert ">light switch</button>" in page and ">[4]</button>" not in page


def test_an_address_outside_of_memory_is_given_to_no_function():
    program = Program(
        "x", 16, [failures.beyond], word_name=lambda i: [f"w{k}" for k in range(16)][i]
    )
    failure = explore(program, engine="interpreted", strategy="dfs").failure
    assert "write [99]" in failure.report()


# --- the allocator's programs --------------------------------------------------------------------
def word_of(program, name):
    return next(i for i in range(program.words) if Naming(program).word(i) == name)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("buddy-churn-3", "zone 0 lock"),
        ("buddy-churn-3", "descriptor of pfn 3"),
        ("buddy-churn-3", "zone 0 nr_free order 2 MOVABLE"),
        ("buddy-churn-3", "zone 0 list order 1 MOVABLE next"),
        ("buddy-churn-3", "block 0 held by cpu 2"),
        ("lock-sleep-2", "counter"),
        ("slab-destroy-free", "cache 0 node 0 lock"),
        ("arrays-drop-drop", "owner map of pfn 0"),
    ],
)
def test_programs_of_the_allocator_name_their_words(program, name):
    assert 0 <= word_of(PROGRAMS[program](), name) < PROGRAMS[program]().words


@pytest.mark.parametrize("name", [name for name in PROGRAMS if not name.startswith("sync-")])
def test_every_program_of_the_allocator_names_all_codes_and_its_world(name):
    program = PROGRAMS[name]()
    assert {Naming(program).code(code) for code in TABLE} == {str(row) for row in TABLE.values()}
    assert program.world
    for index in range(0, program.words, 7):  # any value may be found in any word
        for value in (0, -1, 1 << 62, 0x5555555555555555):
            assert Naming(program).value(index, value) and Naming(program).value(index, value, 1)


def test_a_descriptor_and_a_lock_say_what_they_hold():
    program = PROGRAMS["buddy-churn-3"]()
    naming = Naming(program)
    free = c.T_FREE | 1 << c.ORDER_SHIFT | c.MT_MOVABLE << c.MT_SHIFT | 3 << c.VERSION_SHIFT
    owned = c.T_ALLOCATED | c.MT_MOVABLE << c.MT_SHIFT | 4 << c.VERSION_SHIFT
    at = word_of(program, "descriptor of pfn 0")
    assert naming.value(at, free) == "FREE order 1 zone 0 MOVABLE v3"
    assert naming.value(at, owned, 7).endswith("owner 7")
    assert naming.change(at, (free, 0), (owned, 7)).startswith(
        "FREE order 1 zone 0 MOVABLE v3 -> ALLOCATED order 0"
    )
    lock = word_of(program, "zone 0 lock")
    assert naming.value(lock, 2 | c.LOCK_CONTENDED) == "held by claim 1, contended"
    assert naming.value(lock, 0) == "free"


def test_a_list_link_leads_to_a_page_or_to_its_list():
    program = PROGRAMS["buddy-churn-3"]()
    naming = Naming(program)
    head = word_of(program, "zone 0 list order 2 MOVABLE next")
    page = word_of(program, "pfn 2 +0")
    assert naming.value(head, page << 3) == "pfn 2"
    assert naming.value(page, head << 3) == "list order 2 MOVABLE"


def test_reports_in_memory_become_findings_with_the_words_at_stake():
    program = PROGRAMS["buddy-churn-3"]()
    memory = [int(word) for word in program.init]
    at = memory[c.H_AT_REPORTS]
    memory[c.H_REPORT_COUNT] = 1
    memory[at + c.R_CODE], memory[at + c.R_WHERE] = c.I_TAIL, 2
    memory[at + c.R_EXPECTED], memory[at + c.R_FOUND] = 1, 5 << c.VERSION_SHIFT
    memory[at + c.R_READY] = 1
    (finding,) = program.findings(memory)
    assert (finding.code, finding.name) == (c.I_TAIL, str(TABLE[c.I_TAIL]))
    assert finding.text.startswith("at pfn 2, expected ") and finding.text.endswith("found TAIL v5")
    descriptor = word_of(program, "descriptor of pfn 2")
    assert finding.words == (descriptor, descriptor + 1)


def test_a_kernel_that_fails_alone_says_so_when_a_program_is_prepared():
    state = InitialState.booted(1).take(0)
    with pytest.raises(CorruptionError, match="cannot be prepared: no block of that order"):
        state.take(1)
