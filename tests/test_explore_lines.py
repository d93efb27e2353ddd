"""Which lines a report shows: what decides, what returned a code, what touches words at stake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shmalloc import kernel
from shmalloc.engine import ops
from shmalloc.kernels import buddy, cpu_lock, descriptor, lists, lock, reporting, zone
from shmalloc.words import fixed, load, load_relaxed, store, store_relaxed
from stress import Program, explore, replay
from stress.explorer.report import frames
from stress.explorer.report.folding import MOST_AT_STAKE, Gap, at_stake, folded
from stress.explorer.report.history import MOST_LINES, history
from stress.explorer.report.origin import origin_of
from stress.explorer.report.trace import Marker, Step, addresses_of
from stress.explorer.result import Exploration
from stress.mutants.mutant import rewrite
from stress.mutants.tree import copy_packages
from stress.programs import PROGRAMS
from support import failures

ROOT = Path(__file__).resolve().parent.parent
FIRST_LINES = 40


# --- accessors -----------------------------------------------------------------------------------
@kernel
def updates(mem, i):
    mem[i] = mem[i] + 1


@kernel
def updates_relaxed(mem, i):
    store_relaxed(mem, i, load_relaxed(mem, i) + 1)


@kernel
def reads_one_way_or_the_other(mem, i):
    if fixed(mem, 0) == 1:
        return load(mem, i)
    return load(mem, i + 1)


@kernel
def decides(mem, i):
    old = load(mem, i)
    if old == 0:
        return 1
    return 2


@kernel
def loops(mem, i):
    for _ in range(2):
        store(mem, i, 0)


@pytest.mark.parametrize(
    ("function", "accessor"),
    [
        (updates_relaxed, True), (reads_one_way_or_the_other, True), (descriptor.page_state, True),
        (zone.account, True), (lists.get_link, True), (lists.set_link, True),
        (lists.next_of, True), (cpu_lock.is_inside, True), (cpu_lock.let_go, True),
        (updates, False), (decides, False), (loops, False), (buddy.mergeable, False),
        (lists.list_remove, False), (lock.lock, False), (descriptor.make_free, False),
        (cpu_lock.enter, False),
        (buddy.first_free, False), (reporting.report, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_an_accessor_makes_one_access_and_decides_nothing(function, accessor):
    assert (frames.accesses_of(function) < frames.MANY) == accessor


def test_a_step_shows_the_line_that_calls_an_accessor():
    inner = failures.site_of(descriptor.page_state, "load(mem")
    outer = failures.site_of(buddy.mergeable, "= page_state(")
    assert frames.shown_site((inner, outer)) == outer
    assert frames.caller_of((inner, outer, inner)) == inner
    assert frames.shown_site((inner,)) == inner and frames.shown_site(()) is None


def test_a_read_shows_the_line_that_it_decides():
    read = failures.site_of(buddy.mergeable, "= page_state(")
    decided = frames.decided_by(read)
    assert decided == failures.site_of(buddy.mergeable, "if not is_free_head(")
    assert frames.decided_by(decided) is None
    assert frames.decided_by(failures.site_of(updates, "mem[i] + 1")) is None


# --- where a code comes from ---------------------------------------------------------------------
@kernel
def inner_code(mem):
    return mem[2] + 1


@kernel
def passes_on(mem):
    if load(mem, 1) == 9:
        return 1
    return inner_code(mem)


@kernel
def makes_its_own(mem):
    code = inner_code(mem)
    return code + 1


def test_the_origin_of_a_code_is_the_line_that_made_it():
    origin = origin_of(passes_on, np.array([0, 0, 6, 0]), 7)
    assert origin.sites == (
        failures.site_of(inner_code, "mem[2] + 1"),
        failures.site_of(passes_on, "return inner_code"),
    )
    assert origin.words == (1, 2)


def test_a_code_that_was_computed_comes_from_the_line_that_returned_it():
    origin = origin_of(makes_its_own, np.array([0, 0, 6, 0]), 8)
    assert origin.sites == (failures.site_of(makes_its_own, "return code + 1"),)


def test_the_search_for_the_origin_leaves_tracing_as_it_was():
    calls = []

    def tracer(frame, event, argument):
        calls.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        origin_of(passes_on, np.array([0, 0, 6, 0]), 7)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_a_check_without_names_says_which_line_returned_its_code():
    program = Program(
        "lost", 4, [failures.increment, failures.increment], check=failures.both_counted
    )
    failure = explore(program, strategy="dfs", engine="interpreted", races=False).failure
    site = failures.site_of(failures.both_counted, "return 0 if")
    assert failure.cause.splitlines()[:2] == [
        "The check returned 7 when all CPUs were done.",
        f"  at failures.py:{site.line} in both_counted: return 0 if mem[0] == 2 else 7",
    ]
    assert failure.trace.at_stake == (0,)


@kernel
def divides(mem, cpu):
    return 7 // mem[0]


def test_arithmetic_is_told_with_its_line_and_told_once():
    failure = explore(Program("d", 4, [divides]), engine="interpreted").failure
    line = failures.site_of(divides, "7 //").line
    said = (
        f"A kernel made a division by zero in divides, test_explore_lines.py:{line}: `return 7 //"
    )
    assert said in failure.cause and "arithmetic 3" not in failure.headline
    assert failure.report().count(f"test_explore_lines.py:{line}") == 2  # the cause, and the step


# --- what is at stake ----------------------------------------------------------------------------
def with_stake(failure, *words):
    return replace(failure, trace=replace(failure.trace, at_stake=words))


def test_steps_at_stake_are_never_left_out(rng):
    failure = failures.long_run(60)
    for _ in range(20):
        step = rng.choice(failure.trace.steps)
        marked = replace(step, address=20)
        steps = tuple(marked if one is step else one for one in failure.trace.steps)
        trace = replace(failure.trace, steps=steps, at_stake=(20,))
        shown = folded(trace, margin=rng.randint(0, 3), shortest=rng.randint(1, 6))
        assert marked in shown
        assert any(isinstance(item, Gap) for item in shown)


def test_the_history_has_the_steps_at_stake_and_no_others():
    failure = with_stake(failures.long_run(4), 9)
    lines = list(history(failure))
    assert lines[0] == "What happened to word 9:"
    told = [int(m[1]) for line in lines if (m := re.match(r"  step (\d+), cpu 1: ", line))]
    assert told == [s.index for s in failure.trace.steps if 9 in addresses_of(s)] == [4, 5, 6, 7]


def test_a_long_history_tells_the_last_steps_and_counts_the_others():
    failure = with_stake(failures.long_run(40), 8)
    first, *lines, _ = history(failure)
    told = sum(line.startswith("  step") for line in lines)
    assert len(lines) <= MOST_LINES and first.endswith(f"(and {40 - told} earlier steps):")


def test_a_long_history_tells_the_suspects_before_the_last_steps():
    failure = with_stake(failures.long_run(40), 8)
    suspect = failure.trace.steps[3].index
    failure = replace(failure, trace=replace(failure.trace, suspects=frozenset({suspect})))
    first, step, *_ = history(failure)
    assert first.endswith("more steps):") and step.startswith(f"  step {suspect}, ")


def test_of_a_spin_only_the_first_and_the_last_look_are_at_stake():
    failure = failures.race()
    stack = (failures.site_of(failures.increment, failures.READ_WRITE),)
    looks = tuple(
        Step(k, 0, k + 1, ops.OP_LOAD, 9, int(k >= 7), 0, stack, False, False) for k in range(10)
    )
    trace = replace(failure.trace, steps=looks, at_stake=(9,), conflict=None)
    assert [step.index for step in at_stake(trace)] == [0, 6, 7, 9]


def test_of_very_many_steps_at_stake_the_last_ones_are_shown():
    failure = with_stake(failures.long_run(1000), 8, 9)
    shown = at_stake(failure.trace)
    assert [step.index for step in shown] == list(range(2000 - MOST_AT_STAKE, 2000))


def test_a_marker_stands_before_its_step_in_the_lane_of_its_cpu():
    failure = failures.long_run(4)
    marker = Marker(4, 1, "CPU 1 stops for ever here")
    marked = replace(failure, trace=replace(failure.trace, markers=(marker,)))
    rows = marked.report(200).splitlines()
    at = next(k for k, line in enumerate(rows) if "CPU 1 stops for ever here" in line)
    assert rows[at].split("|")[3].strip() == "CPU 1 stops for ever here"
    assert rows[at - 1].split("|")[0].strip() == "3" and rows[at + 1].split("|")[0].strip() == "4"
    assert "CPU 1 stops for ever here" in marked.html()


def test_the_calls_of_each_step_are_shown_when_they_are_asked_for():
    failure = failures.deadlock()
    outer = f"failures.py:{failures.site_of(failures.four_then_two, 'lock(mem, 2, cpu)').line} "
    steps = failure.report(200).partition("preempt:")[0]
    assert outer not in steps
    assert outer in failure.report(200, paths=True).partition("preempt:")[0]


def test_a_step_of_an_interpreted_run_knows_what_it_found_and_left():
    program = Program(
        "lost", 4, [failures.increment, failures.increment], check=failures.both_counted
    )
    failure = explore(program, strategy="dfs", engine="interpreted", races=False).failure
    seen = [(s.before, s.after) for s in failure.trace.steps if s.cpu == 1]
    assert seen == [((0,), (0,)), ((0,), (1,))]


# --- verdict lines and what a notebook shows ------------------------------------------------------
def test_a_pass_names_its_memory_model_and_its_world():
    result = explore(PROGRAMS["buddy-merge-merge"](), engine="interpreted", memory="tso")
    assert str(result).startswith(
        "buddy-merge-merge (auto): passed-exhausted under tso (x86): 2 CPUs, 2 pages, order <= 1; "
    )


def test_a_program_that_does_not_describe_its_world_is_described_by_its_words():
    result = explore(Program("d", 8, [failures.left]), engine="interpreted")
    assert result.world == "1 CPU, 8 words" and " under sc: 1 CPU, 8 words; " in str(result)


def test_results_are_short_in_a_prompt_and_a_page_in_a_notebook():
    result = explore(
        Program("lost", 4, [failures.increment, failures.increment], check=failures.both_counted),
        engine="interpreted",
    )
    again = replay(result.program, result.failure.schedule)
    for value in (result, result.failure, again):
        assert len(repr(value)) < 200 and repr(value).startswith(f"<{type(value).__name__} ")
        assert value._repr_html_().count("<iframe srcdoc=") == 1
        assert "<script>" not in value._repr_html_().replace("&quot;", "").split("srcdoc=")[0]
    passed = explore(Program("<b>", 8, [failures.left]), engine="interpreted")
    assert isinstance(passed, Exploration) and passed._repr_html_().startswith("<p>&lt;b&gt; (")


# --- a stranger breaks a kernel -------------------------------------------------------------------
def broken_copy(place, path, old, new):
    """Both packages with the one place that ``old``, a pattern, matches made ``new``; its line."""
    copy_packages(place)
    text = (place / path).read_text()
    (found,) = re.finditer(old, text)
    rewrite(place / path, text[: found.start()] + new + text[found.end() :])
    return text[: found.start()].count("\n") + 1


@pytest.mark.parametrize(
    ("program", "path", "old", "new", "name"),
    [
        ("buddy-merge-merge-3", "shmalloc/kernels/buddy.py",
         r"if not is_free_head\(w0, fixed\(.*\), order\):", "if type_of(w0) != 1:", "I_TAIL"),
        ("buddy-merge-merge", "shmalloc/kernels/buddy.py",
         r"mem\[count\] = mem\[count\] - 1", "mem[count] = mem[count]", "I_LIST_LINKS"),
        ("lock-sleep-2", "shmalloc/kernels/lock.py",
         r"if not cas\(mem, at, 0, me\):(?=\n        lock_slow)",
         "if not cas(mem, at, 0, me) and me < 0:", "race"),
    ],
    ids=["forgets-the-order", "loses-a-count", "lets-two-in"],
)  # fmt: skip
def test_the_wrong_line_is_among_the_first(tmp_path, program, path, old, new, name):
    line = broken_copy(tmp_path, path, old, new)
    done = subprocess.run(
        [sys.executable, "-m", "stress", "explore", program, "--engine", "interpreted"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1, done.stderr
    first = "\n".join(done.stdout.splitlines()[:FIRST_LINES])
    assert name in first
    assert f"{Path(path).name}:{line}" in first
