"""Single-token mutants: every one parses, names survive, states carry on, shares are honest."""

from __future__ import annotations

import ast
import json
import signal
from collections import Counter

import pytest

from shmalloc.errors import MisuseError
from stress.mutants import kill_table, single_token, systematic
from stress.mutants.equivalent import ARGUMENTS
from stress.mutants.single_token import KINDS, ORDER, all_mutants, mutants_of
from stress.mutants.systematic import (
    EQUIVALENT,
    KILLED,
    NEEDS_C11,
    PROGRAMS,
    REFUSED,
    RUN,
    STAGES,
    SURVIVED,
    Hunt,
    Judged,
    State,
    in_parts,
    is_lock,
    sampled,
)
from stress.mutants.tree import copy_packages
from support.runs import ROOT, shmstress

SOURCE = '''"""A file."""
from shmalloc.dialect import kernel
from shmalloc.words import load, store


@kernel
def first(mem: "Memory", at: int, more: int = 1 - 1) -> int:
    """Says ``a < b``."""
    seen = load(mem, at + 1)
    if seen < more and not (at == 0):
        store(mem, at, more)
        return (seen - 1)
    return 0


def plain(a, b):
    return a < b
'''


@pytest.fixture(scope="module")
def every():
    return all_mutants()


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "package" / "file.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return list(mutants_of(path, tmp_path))


# --- the mutants ---------------------------------------------------------------------------------
def test_mutants_parse_and_differ_from_their_kernels(every, rng):
    for one in rng.sample(every, 100):
        text = (ROOT / one.file).read_text()
        assert ast.dump(ast.parse(one.patched(text))) != ast.dump(ast.parse(text)), str(one)


def test_the_relaxed_word_of_an_order_is_imported_and_no_line_moves(every):
    for one in every:
        if one.kind == ORDER and one.new != "pass":
            text = (ROOT / one.file).read_text()
            tree = ast.parse(one.patched(text))
            imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
            assert one.new in {name.name for node in imports for name in node.names}, str(one)
            assert one.patched(text).count("\n", 0, one.start) + 1 == one.line


def test_every_kind_occurs_and_no_name_twice(every):
    assert {one.kind for one in every} == set(KINDS)
    assert max(Counter(one.name for one in every).values()) == 1


def test_the_mutants_of_a_function_are_those_that_a_reader_would_list(small):
    assert Counter((one.kind, " ".join(one.old.split()), one.new) for one in small) == Counter(
        {
            ("comparison", "<", "<="): 1,
            ("comparison", "<", ">="): 1,
            ("comparison", "==", "!="): 1,
            ("step", "+", "-"): 1,
            ("step", "+ 1", ""): 1,
            ("step", "-", "+"): 1,
            ("step", "- 1", ""): 1,
            ("order", "load", "load_relaxed"): 1,
            ("order", "store", "store_relaxed"): 1,
            ("statement", "seen = load(mem, at + 1)", "pass"): 1,
            ("statement", "store(mem, at, more)", "pass"): 1,
            ("statement", "return (seen - 1)", "pass"): 1,
            ("statement", "return 0", "pass"): 1,
            (
                "statement",
                "if seen < more and not (at == 0): store(mem, at, more) return (seen - 1)",
                "pass",
            ): 1,
            ("arguments", "at, more", "more, at"): 1,
            ("logic", "and", "or"): 1,
            ("logic", "not", ""): 1,
        }
    )


def test_a_change_elsewhere_in_the_file_keeps_names_and_digests(tmp_path, small):
    path = tmp_path / "package" / "file.py"
    path.write_text(SOURCE.replace("def plain", "X = 1 < 2\n\n\ndef plain").replace("Says", "Said"))
    again = list(mutants_of(path, tmp_path))
    assert [(one.name, one.digest) for one in again] == [(one.name, one.digest) for one in small]


def test_a_change_of_the_function_is_another_digest(tmp_path, small):
    path = tmp_path / "package" / "file.py"
    path.write_text(SOURCE.replace("return 0", "return 2"))
    assert {one.digest for one in mutants_of(path, tmp_path)}.isdisjoint(
        one.digest for one in small
    )


# --- the sample ----------------------------------------------------------------------------------
def test_a_sample_has_all_of_the_locks_and_each_module_by_its_share(every):
    drawn = sampled(every, 700, 5)
    locks = {one for one in every if is_lock(one)}
    assert len(drawn) == 700 + len(locks) == len(set(drawn))
    assert locks <= set(drawn)
    rest = [one for one in every if not is_lock(one)]
    wanted = 700
    counts = Counter(one.module for one in drawn if not is_lock(one))
    for module, size in Counter(one.module for one in rest).items():
        assert abs(counts[module] - size * wanted / len(rest)) < 1


def test_the_seed_gives_the_same_sample(every):
    assert sampled(every, 300, 9) == sampled(every, 300, 9) != sampled(every, 300, 10)


def test_a_part_that_is_none_is_refused(every):
    with pytest.raises(MisuseError, match="did you mean 'lock'"):
        in_parts(every, ["lokc"])


# --- the state -----------------------------------------------------------------------------------
def test_a_state_is_carried_on_and_void_for_another_function(tmp_path, small):
    path = tmp_path / "state"
    one, other = small[:2]
    State(path).add(Judged(one.name, one.digest, KILLED, PROGRAMS, "p", "check"))
    State(path).add(Judged(other.name, "another", SURVIVED))
    again = State(path)
    known = again.of(one)
    assert known is not None and known.outcome == KILLED
    assert again.of(other) is None


def test_the_last_line_of_a_killed_session_may_be_cut(tmp_path, small):
    path = tmp_path / "state"
    State(path).add(Judged(small[0].name, small[0].digest, KILLED))
    path.write_text(path.read_text() + '{"name": "x')
    assert State(path).of(small[0]) is not None


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path = tmp_path / "state"
    path.write_text("a\nb\n")
    with pytest.raises(MisuseError, match=":1 is no line of a state"):
        State(path)


# --- the share -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_the_literature(successes, trials, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I."""
    share = kill_table.wilson(successes, trials)
    assert (round(share.low, 4), round(share.high, 4)) == (low, high)


def test_the_share_leaves_out_what_is_no_mutant(every):
    some = [one for one in every if not is_lock(one)][:5]
    outcomes = (KILLED, SURVIVED, REFUSED, EQUIVALENT, NEEDS_C11)
    judged = [
        (mutant, Judged(mutant.name, mutant.digest, outcome, PROGRAMS if outcome == KILLED else ""))
        for mutant, outcome in zip(some, outcomes, strict=True)
    ]
    assert kill_table.killed_share(judged, some * 2).part == 0.5
    assert len(kill_table.holes(judged)) == 1


# --- hunts ---------------------------------------------------------------------------------------
def test_a_generated_mutant_is_reached_hunted_and_killed(every, tmp_path, monkeypatch):
    """A lock that is taken when the exchange fails; and one that the dialect refuses."""
    lock = [one for one in every if one.function == "lock" and one.module.endswith(".lock")]
    broken = next(one for one in lock if one.kind == "logic" and one.old == "not")
    refused = next(one for one in lock if one.kind == "statement" and one.old.startswith("me ="))
    monkeypatch.setattr("stress.mutants.systematic.reaching", lambda mutant: ("buddy-alloc-alloc",))
    copy_packages(tmp_path)
    hunt = Hunt((PROGRAMS,), 4.0)
    state = State(tmp_path / "state")
    killed = hunt.judge(broken, tmp_path, state)
    assert (killed.outcome, killed.stage) == (KILLED, PROGRAMS), killed
    assert hunt.judge(refused, tmp_path, state).outcome == REFUSED
    assert (tmp_path / broken.file).read_text() == (ROOT / broken.file).read_text()


@pytest.mark.parametrize(
    ("doing", "outcome"), [("preparing one", KILLED), ("preparing one\nexploring", SURVIVED)]
)
def test_only_a_kernel_that_does_not_end_is_found_by_its_time(
    doing, outcome, every, tmp_path, monkeypatch
):
    ended = -signal.SIGXCPU, "", f"{doing}\n"
    monkeypatch.setattr(systematic, "run_python", lambda *_: ended)
    monkeypatch.setattr(systematic, "reaching", lambda mutant: ("one",))
    copy_packages(tmp_path)
    judged = Hunt((PROGRAMS,), 4.0).judge(every[0], tmp_path, State(tmp_path / "state"))
    assert judged.outcome == outcome


def test_a_survivor_is_hunted_in_the_stages_that_are_new_to_it(every, tmp_path, monkeypatch):
    one, state = every[0], State(tmp_path / "state")
    state.add(Judged(one.name, one.digest, SURVIVED, seconds=3.0, stages=(PROGRAMS,), note="old"))
    assert state.stages_left(one, (PROGRAMS, RUN)) == (RUN,)
    found = Judged(one.name, one.digest, SURVIVED, seconds=2.0, note="new")
    monkeypatch.setitem(systematic._STAGES, RUN, lambda *_: found)
    monkeypatch.delitem(systematic._STAGES, PROGRAMS)
    copy_packages(tmp_path)
    judged = Hunt((PROGRAMS, RUN), 4.0).judge(one, tmp_path, state)
    assert (judged.stages, judged.seconds) == ((PROGRAMS, RUN), 5.0)
    assert judged.note == "old; run: new"


@pytest.mark.parametrize("outcome", [KILLED, REFUSED, EQUIVALENT])
def test_what_is_decided_is_hunted_no_more(outcome, every, tmp_path):
    state = State(tmp_path / "state")
    state.add(Judged(every[0].name, every[0].digest, outcome, stages=(PROGRAMS,)))
    assert state.stages_left(every[0], STAGES) == ()


def test_an_argument_that_is_found_later_is_heard(every, tmp_path, monkeypatch):
    one, state = every[0], State(tmp_path / "state")
    state.add(Judged(one.name, one.digest, SURVIVED, stages=STAGES))
    monkeypatch.setitem(ARGUMENTS, (one.name, one.digest), "it writes what is there")
    told = state.of(one)
    assert (told.outcome, told.note) == (EQUIVALENT, "it writes what is there")
    assert state.stages_left(one, STAGES) == ()


def test_the_command_prints_what_a_state_knows(every, tmp_path):
    state, document = tmp_path / "state", tmp_path / "out.json"
    mutants = [one for one in every if one.module.endswith(".lock")]
    State(state).add(Judged(mutants[0].name, mutants[0].digest, SURVIVED, stages=STAGES))
    options = ("--state", str(state), "--table", "--json", str(document))
    done = shmstress("mutants", "--systematic", "lock", *options)
    told = json.loads(document.read_text())
    assert done.returncode == 1 and f"survived: {mutants[0]}" in done.stdout
    assert (told["mutants"], len(told["results"])) == (len(mutants), 1)


def test_kinds_have_each_their_changes():
    assert tuple(single_token._CHANGES) == KINDS
