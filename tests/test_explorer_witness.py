"""From a failing schedule to a proof: shrinking, traces, tokens, replays, and the self-check."""

from __future__ import annotations

import importlib
import itertools
import linecache
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import model_programs as m
from shmalloc.dialect import kernel, primitive
from shmalloc.errors import EngineError, MisuseError
from shmalloc.words import load
from stress import Program, explore, replay
from stress.explorer.digest import digest_of
from stress.explorer.report.failure import KINDS, Failure
from stress.explorer.searches import Budget, Plan, Search
from stress.explorer.targets import load_program
from stress.explorer.token import Directive, Token
from stress.explorer.witness import Attempts, run_directives, shrink, steering
from stress.machine.block_layout import Settings
from stress.machine.engines import ENGINES, make_machine
from stress.machine.machine import events_of
from stress.machine.models import MODELS
from support.explorer_kernels import (
    DATA,
    FLAG,
    OTHER,
    await_,
    both_read_zero,
    load2_,
    load_,
    never_both,
    read,
    script,
    store_,
    store_first,
    swap_zeros,
    write,
)

LOST_UPDATE = Program("lost-update", 8, [m.increment, m.increment], check=m.expect_two)
ABA = Program(
    "aba",
    32,
    [m.pop_and_keep, m.pop_two_push_one],
    check=m.owned_once,
    init=[(0, 2), (2, 4), (4, 6), (6, 0)],
)
STORE_BUFFERING = Program("store-buffering", 8, [store_first] * 2, check=both_read_zero)


def find(program: Program, strategy: str = "dfs", **options: Any) -> Failure:
    """A failure, found on the interpreted engine unless the options say otherwise."""
    options = {"engine": "interpreted", "races": False, "seconds": None, **options}
    failure = explore(program, strategy, **options).failure
    assert failure is not None
    return failure


def settings_of(token: Token, **more: Any) -> Settings:
    return Settings(
        step_limit=token.step_limit,
        model=token.memory,
        parking=token.parking,
        free_spins=token.free_spins,
        races=token.kind in ("race", "torn"),
        **more,
    )


# --- shrinking -----------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize(
    ("program", "options"),
    [
        (ABA, {"schedules": 20_000}),
        (script([store_(FLAG), store_(FLAG, 0)], [store_(DATA), store_(DATA, 0)],
                [load_(DATA)] * 3, invariant=never_both), {}),
        (script([load_(6), load_(7), write(OTHER)], [swap_zeros(6)], [load_(6)] * 4),
         {"races": True}),
        (STORE_BUFFERING, {"memory": "tso"}),
    ],
    ids=["aba", "invariant", "torn", "store-buffering"],
)  # fmt: skip
def test_a_failure_changes_whichever_directive_is_left_out(program, options, seed):
    failure = find(program, "random", seed=seed, **options)
    token = Token.parse(failure.schedule)
    model = program
    machine = make_machine("interpreted", model, steering(settings_of(token), len(model.threads)))
    whole = run_directives(machine, token.directives)
    assert failure.shrunk and failure.shrink_seconds < 1 and token.directives
    assert whole is not None and whole[:2] == (failure.kind, failure.code)
    for left_out in range(len(token.directives)):
        rest = token.directives[:left_out] + token.directives[left_out + 1 :]
        assert run_directives(machine, rest) != whole


DIRECTIVES = tuple(Directive(0, count, 1) for count in range(40))


@given(st.sets(st.sampled_from(DIRECTIVES)))
def test_shrinking_finds_exactly_the_directives_that_matter(needed):
    attempts = Attempts(lambda kept: needed <= set(kept), seconds=60)
    kept, shrunk = shrink(DIRECTIVES, attempts)
    assert (set(kept), shrunk) == (needed, True)


def test_shrinking_that_runs_out_of_time_says_so_and_keeps_what_fails():
    needed = set(DIRECTIVES[::7])
    kept, shrunk = shrink(DIRECTIVES, Attempts(lambda kept: needed <= set(kept), seconds=-1))
    assert not shrunk and needed <= set(kept)


def test_a_failure_of_every_schedule_needs_no_directive():
    failure = find(script([write(DATA)], [write(DATA)]), "random", races=True)
    assert Token.parse(failure.schedule).directives == ()


# --- traces --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("program", "options", "preemptions"),
    [
        (LOST_UPDATE, {}, 1),
        (STORE_BUFFERING, {"memory": "tso"}, 0),
        (script([write(DATA)], [write(DATA)]), {"races": True}, 0),
        (script([await_(FLAG)], [await_(FLAG)]), {}, 0),
        (
            script(
                [store_(DATA), store_(DATA, 0)],
                [store_(FLAG), store_(FLAG, 0)],
                invariant=never_both,
            ),
            {},
            1,
        ),
    ],
    ids=["lost update", "store buffering", "race", "livelock", "invariant"],
)
def test_a_failure_counts_the_preemptions_that_it_needs(program, options, preemptions):
    failure = find(program, **options)
    assert failure.preemptions == preemptions
    assert sum(step.preempted for step in failure.trace.steps) == preemptions


def test_the_pair_that_decides_is_what_a_preemption_separated_and_what_came_between():
    trace = find(LOST_UPDATE).trace
    earlier, later = (trace.steps[index] for index in trace.conflict)
    victim, other = earlier.cpu, later.cpu
    assert victim != other
    assert [(step.cpu, step.op) for step in trace.steps] == [
        (victim, 0),
        (other, 0),
        (other, 4),
        (victim, 4),
    ]
    assert (earlier.index, later.index) == (0, 2)


def test_the_steps_of_a_trace_know_their_line_and_function():
    trace = find(LOST_UPDATE).trace
    sites = {(Path(step.site.file).name, step.site.function) for step in trace.steps}
    assert sites == {("model_programs.py", "increment")}


def test_a_step_in_a_callee_knows_its_caller():
    (stack,) = {step.stack[1:] and step.stack for step in find(ABA).trace.steps[:1]}
    assert [site.function for site in stack] == ["pop", "pop_and_keep"]


def test_a_trace_has_the_memory_and_the_returns_of_its_end():
    trace = find(LOST_UPDATE).trace
    assert (trace.memory[m.FLAG], trace.returns) == (1, (0, 0))


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (LOST_UPDATE, {}),
        (ABA, {}),
        (STORE_BUFFERING, {"memory": "tso"}),
        (STORE_BUFFERING, {"memory": "pso"}),
        (script([load2_(6), load_(6), read(7)], [swap_zeros(6)]), {"races": True}),
    ],
    ids=["lost update", "aba", "tso", "pso", "torn"],
)
def test_the_steps_of_a_trace_are_the_events_of_the_native_engine(program, options):
    failure = find(program, **options)
    token = Token.parse(failure.schedule)
    model = program
    machine = make_machine(
        "native", model, steering(settings_of(token, log=True), len(model.threads))
    )
    assert run_directives(machine, token.directives) is not None
    steps = [(t.cpu, t.op, t.address, t.value, t.second) for t in failure.trace.steps]
    assert [tuple(event) for event in events_of(machine.block)] == steps


def test_both_engines_find_the_same_failure():
    found = [find(ABA, "random", engine=engine, schedules=20_000) for engine in ENGINES]
    assert found[0].schedule == found[1].schedule
    assert found[0].found_after == found[1].found_after
    assert found[0].trace == found[1].trace


def test_the_report_ends_with_the_token_in_one_piece():
    failure = find(LOST_UPDATE)
    assert failure.report(40).splitlines()[-1].endswith(f" {failure.schedule}")


def test_the_page_contains_the_token():
    failure = find(LOST_UPDATE)
    assert failure.schedule in failure.html()


# --- tokens --------------------------------------------------------------------------------------
numbers = st.integers(0, 1 << 40)
directives = st.builds(Directive, st.none() | numbers, numbers, numbers)
tokens = st.builds(
    lambda spins, **fields: Token(parking=spins is not None, free_spins=spins or 0, **fields),
    spins=st.none() | numbers,
    target=st.text(min_size=1),
    memory=st.sampled_from(sorted(MODELS)),
    step_limit=st.integers(9, 1 << 40),
    kind=st.sampled_from(KINDS),
    code=st.integers(-(1 << 63), 1 << 63),
    digest=st.text("0123456789abcdef", min_size=12, max_size=12),
    directives=st.lists(directives, max_size=9).map(tuple),
)


@given(tokens)
def test_a_token_reads_back_as_itself(token):
    assert Token.parse(str(token)) == token


@given(tokens)
def test_a_token_is_one_word_for_a_shell(token):
    assert re.fullmatch(r"[\w@%+=:,./~-]+", str(token), re.ASCII)


GOOD = "shm1/lost-update/sc/p1/10000/check/-1/0123456789ab/0.1-1"


@pytest.mark.parametrize(
    "text",
    [
        "", "lost-update", "shm1", "shm2" + GOOD[4:], GOOD + "/0", GOOD.rpartition("/")[0],
        GOOD.replace("sc", "weak"), GOOD.replace("check", "cheque"), GOOD.replace("p1", "p"),
        GOOD.replace("p1", "x"), GOOD.replace("10000", "many"), GOOD.replace("10000", "0"),
        GOOD.replace("/-1/", "/one/"), GOOD.replace("0.1-1", ""), GOOD.replace("0.1-1", "0.1"),
        GOOD.replace("0.1-1", "0-1"), GOOD.replace("0.1-1", "x.1-1"), GOOD + ",", GOOD + ",-",
        GOOD.replace("0.1-1", "0.1-s"), GOOD.replace("0.1-1", "0.1--1"),
    ],
)  # fmt: skip
def test_a_malformed_token_is_refused_with_the_cure(text):
    with pytest.raises(MisuseError, match=r"token: .*; use "):
        replay(LOST_UPDATE, text)


def test_a_token_with_more_directives_than_steps_is_refused():
    crowded = GOOD.replace("10000", "3") + ",0.2-1" * 9
    with pytest.raises(MisuseError, match=r"token: .*; use "):
        replay(LOST_UPDATE, crowded)


@pytest.mark.parametrize(
    ("directive", "memory"), [("0.1-2", "sc"), ("2.1-0", "sc"), ("0.1-4", "tso"), ("0.1-18", "pso")]
)
def test_a_token_that_names_a_cpu_which_the_program_has_not_is_refused(directive, memory):
    text = GOOD.replace("0.1-1", directive).replace("sc", memory)
    with pytest.raises(MisuseError, match="token of another program"):
        replay(LOST_UPDATE, text)


def test_a_token_that_names_another_program_is_refused():
    with pytest.raises(MisuseError, match=r"another program, slab-alloc-free, not to lost-upd"):
        replay(LOST_UPDATE, GOOD.replace("lost-update", "slab-alloc-free"))


def test_a_token_with_one_wrong_character_is_refused_or_replayed(rng):
    text = find(LOST_UPDATE).schedule
    for _attempt in range(150):
        at = rng.randrange(len(text))
        wrong = text[:at] + rng.choice("x0/-,.s9") + text[at + 1 :]
        try:
            again = replay(LOST_UPDATE, wrong)
        except MisuseError:
            continue
        assert again.token == str(Token.parse(wrong))


# --- tokens and edits ----------------------------------------------------------------------------
SOURCE = '''"""A module with a program."""
from shmalloc import kernel
from shmalloc.words import load, store
from stress import Program

STEP = 1


@kernel
def add(value):
    return value + STEP


@kernel
def count(mem, cpu):
    """Count."""
    value = load(mem, 0)
    store(mem, 0, add(value))  # not at once


@kernel
def counted(mem):
    return 0 if mem[0] == 2 * STEP else 3


program = Program("counting", 2, [count, count], check=counted, init=[(1, 0)])
'''
EDITS_THAT_CHANGE_NOTHING: dict[str, Callable[[str], str]] = {
    "lines above": lambda text: "# one\n\n# two\n" + text,
    "a comment inside": lambda text: text.replace("    value =", "    # look\n\n    value ="),
    "a docstring": lambda text: text.replace('"""Count."""', '"""Count up,\n    not down."""'),
    "no docstring": lambda text: text.replace('    """Count."""\n', ""),
    "layout": lambda text: text.replace("add(value))", "add(\n        value))"),
    "another function": lambda text: text.replace(
        "@kernel\ndef counted", "def spare():\n    return 1\n\n\n@kernel\ndef counted"
    ),
    "another constant": lambda text: text.replace("STEP = 1", "STEP = 1\nSPARE = 2"),
    "a breakpoint": lambda text: text.replace("    value =", "    breakpoint()\n    value ="),
}
EDITS_THAT_CHANGE: dict[str, Callable[[str], str]] = {
    "the kernel": lambda text: text.replace("    value =", "    load(mem, 1)\n    value ="),
    "a constant": lambda text: text.replace("STEP = 1", "STEP = 4"),
    "a callee": lambda text: text.replace("value + STEP", "STEP + value"),
    "the check": lambda text: text.replace("else 3", "else 4"),
    "the initial memory": lambda text: text.replace("(1, 0)", "(1, 9)"),
    "the size of memory": lambda text: text.replace('"counting", 2', '"counting", 4'),
    "one CPU more": lambda text: text.replace("[count, count]", "[count, count, count]"),
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Program]:
    """Write a module and load its program, as a new process would."""

    def write_module(text: str) -> Program:
        (tmp_path / "counting.py").write_text(text)
        return load_program(f"{tmp_path / 'counting.py'}:program")

    yield write_module
    sys.modules.pop("explored_counting", None)


NUMBERS = "counting_numbers"


@pytest.fixture
def numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """The digest of a program that names STEP in the way ``named``, where STEP is ``value``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(named: str, value: str) -> str:
        (tmp_path / f"{NUMBERS}.py").write_text(f"STEP = {value}\n")
        imported = f"from {NUMBERS} import STEP" if named == "STEP" else f"import {NUMBERS}"
        text = SOURCE.replace("STEP = 1\n", imported + "\n").replace(" STEP\n", f" {named}\n", 1)
        (tmp_path / "counting.py").write_text(text.replace("2 * STEP", "2"))
        for module in (NUMBERS, "explored_counting"):
            sys.modules.pop(module, None)
        linecache.clearcache()
        importlib.invalidate_caches()
        return digest_of(load_program(f"{tmp_path / 'counting.py'}:program"))

    yield digest
    for module in (NUMBERS, "explored_counting"):
        sys.modules.pop(module, None)


def test_a_constant_of_another_module_is_part_of_the_digest(numbered):
    named = f"{NUMBERS}.STEP"
    assert numbered(named, "1") == numbered(named, "1") != numbered(named, "12345")


def test_the_digest_does_not_depend_on_how_a_constant_is_named(numbered):
    assert numbered("STEP", "1") == numbered(f"{NUMBERS}.STEP", "1")


@pytest.mark.parametrize("edit", EDITS_THAT_CHANGE_NOTHING)
def test_a_token_survives_an_edit_of_what_does_not_matter(written, edit, monkeypatch):
    monkeypatch.setattr(sys, "breakpointhook", lambda: None)
    token = find(written(SOURCE)).schedule
    edited = EDITS_THAT_CHANGE_NOTHING[edit](SOURCE)
    assert edited != SOURCE
    again = replay(written(edited), token)
    assert (again.reproduced, again.changed) == (True, False)
    assert str(again) == "reproduced: check 3"


@pytest.mark.parametrize("edit", EDITS_THAT_CHANGE)
def test_a_replay_says_that_what_it_replays_has_changed(written, edit):
    token = find(written(SOURCE)).schedule
    edited = EDITS_THAT_CHANGE[edit](SOURCE)
    assert edited != SOURCE
    again = replay(written(edited), token)
    assert again.changed and "have changed since this token was made" in str(again)


def test_a_replay_of_a_mended_kernel_passes_and_does_not_say_reproduced(written):
    token = find(written(SOURCE)).schedule
    mended = SOURCE.replace("import load, store", "import fetch_add").replace(
        "    value = load(mem, 0)\n    store(mem, 0, add(value))", "    fetch_add(mem, 0, add(0))"
    )
    again = replay(written(mended), token)
    assert (again.reproduced, again.changed, again.failure) == (False, True, None)
    assert "Explore again to know whether the bug is gone" in str(again)


def test_a_token_of_another_failure_of_the_same_program_is_not_reproduced(written):
    program = written(SOURCE)
    token = Token.parse(find(program).schedule)
    again = replay(program, str(replace(token, code=9)))
    assert (again.reproduced, again.changed) == (False, False)
    assert str(again) == "not reproduced: the token says check 9, the schedule ended in: check 3"


def test_a_token_names_the_file_that_its_program_is_in(written, tmp_path):
    program = written(SOURCE)
    token = Token.parse(find(program).schedule)
    assert load_program(token.target, [tmp_path]).name == "counting"
    assert token.target == "counting.py:program"


# --- replays -------------------------------------------------------------------------------------
@pytest.mark.parametrize("replayed_on", ENGINES)
@pytest.mark.parametrize("found_on", ENGINES)
@pytest.mark.parametrize(
    ("program", "options"),
    [
        (ABA, {}),
        (STORE_BUFFERING, {"memory": "tso"}),
        (script([await_(FLAG)], [await_(OTHER)]), {}),
        (script([write(DATA)], [read(DATA)]), {"races": True}),
        (script([load_(DATA)], [store_(10**6)]), {}),
    ],
    ids=["check", "tso", "livelock", "race", "memory"],
)
def test_a_failure_of_one_engine_is_replayed_on_both(program, options, found_on, replayed_on):
    failure = find(program, engine=found_on, **options)
    again = replay(program, failure.schedule, engine=replayed_on)
    assert (again.reproduced, again.changed) == (True, False)
    assert again.failure.trace == failure.trace


def test_a_replay_on_an_unknown_engine_is_refused():
    with pytest.raises(MisuseError, match="engine: 'python'; use native or interpreted"):
        replay(LOST_UPDATE, find(LOST_UPDATE).schedule, engine="python")


def test_a_breakpoint_in_a_kernel_stops_there_in_every_replay(written, monkeypatch):
    stops = []

    def note() -> None:
        frame = sys._getframe(1)
        stops.append((frame.f_code.co_name, frame.f_locals["cpu"], frame.f_locals.get("value")))

    monkeypatch.setattr(sys, "breakpointhook", note)
    program = written(SOURCE.replace("    store(", "    breakpoint()\n    store("))
    failure = find(program)
    stops.clear()
    assert replay(program, failure.schedule).reproduced
    assert sorted(stops) == [("count", 0, 0), ("count", 1, 0)]


def test_a_breakpoint_cannot_be_compiled(written):
    program = written(SOURCE.replace("    store(", "    breakpoint()\n    store("))
    with pytest.raises(EngineError, match="breakpoint"):
        explore(program, engine="native")


# --- the self-check ------------------------------------------------------------------------------
CALLS = itertools.count(1)


@primitive("int")
def another(mem) -> int:
    """What no kernel may use: a number that differs in every schedule."""
    return next(CALLS)


@kernel
def unsteady(mem, cpu):
    return load(mem, another(mem) % 4)


@kernel
def fails_once(mem):
    return 1 if another(mem) == 1 else 0


@pytest.mark.parametrize("strategy", ["dfs", "random", "pct", "pos", "surw", "dpor", "auto"])
def test_a_schedule_that_does_not_repeat_makes_the_verdict_error(strategy):
    program = Program("unsteady", 8, [unsteady, unsteady])
    result = explore(program, strategy, engine="interpreted", schedules=300)
    assert (result.verdict, result.failure) == ("error", None)
    assert result.note.startswith("a schedule that was run twice did not repeat")


def test_a_failure_that_does_not_repeat_makes_the_verdict_error(monkeypatch):
    monkeypatch.setitem(globals(), "CALLS", itertools.count(1))
    program = Program("fails-once", 8, [m.increment], check=fails_once)
    result = explore(program, "random", engine="interpreted", schedules=300)
    assert (result.verdict, result.failure) == ("error", None)
    assert "did not fail when it was run again" in result.note


@pytest.mark.parametrize("strategy", ["dfs", "random", "pct", "pos", "surw", "dpor"])
def test_one_schedule_in_a_hundred_is_run_twice(strategy):
    program = script([store_(DATA)] * 3, [store_(DATA)] * 3, [store_(DATA)] * 3)
    plan = Plan(strategy, Settings(), "interpreted", 1, stop_on_failure=True)
    search = Search(program, plan, Budget(None, 250))
    search.run()
    found = search.found()
    assert (found.schedules, found.repeats) == (250, 3)
