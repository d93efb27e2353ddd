"""The failure in words: what the report in the terminal must say, and what it may leave out."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import pytest

from shmalloc.engine import ops
from stress import Program, explore
from stress.explorer.report import wording
from stress.explorer.report.folding import folded
from stress.explorer.report.trace import Blocked, Step, Trace
from stress.machine.site import Site
from stress.programs import PROGRAMS
from support import failures

WIDTHS = (40, 60, 80, 100, 120, 200)


def steps_in(text):
    """The cells of every row with a step number, by that number."""
    rows = [[cell.strip() for cell in line.split(" |")] for line in text.splitlines()]
    return {int(row[0]): row[1:] for row in rows if row[0].isdigit() and len(row) > 2}


def section(text, title):
    """The lines from the one that starts with ``title`` to the next empty one."""
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith(title))
    return lines[first : lines.index("", first)]


def random_trace(rng):
    """Runs of random lengths, with a conflict somewhere in them."""
    cpus = rng.randint(2, 4)
    order = [
        cpu for _ in range(rng.randint(2, 8)) for cpu in [rng.randrange(cpus)] * rng.randint(1, 40)
    ]
    steps = tuple(
        Step(k, cpu, 1, ops.OP_LOAD, cpu, 0, 0, (), k > 0 and order[k - 1] != cpu, False)
        for k, cpu in enumerate(order)
    )
    first, second = sorted(rng.sample(range(len(steps)), 2)) if len(steps) > 1 else (0, 0)
    return Trace(cpus=cpus, steps=steps, conflict=(first, second))


def of_step(op, address=6, value=0, second=0):
    return str(wording.words_of(Step(0, 0, 1, op, address, value, second, (), False, False)))


# --- first lines ---------------------------------------------------------------------------------
def test_the_first_line_names_program_kind_code_and_memory_model():
    first = failures.failed_check().report().splitlines()[0]
    assert all(word in first for word in ("lost-update", "check 7", "sc"))


def test_the_cause_stands_before_the_steps():
    failure = failures.failed_check()
    text = failure.report()
    assert 0 < text.index(failure.cause) < text.index("cpu 0 increment")


def test_markup_of_the_terminal_in_a_name_is_text():
    text = failures.failed_check(name="[bold]lost[/bold] :bug:").report()
    assert text.startswith("[bold]lost[/bold] :bug:: check 7")


# --- the steps -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "scenario", [failures.race, failures.failed_check, failures.deadlock, failures.torn]
)
def test_every_step_is_in_the_column_of_its_cpu_and_in_no_other(scenario):
    failure = scenario()
    rows = steps_in(failure.report())
    assert sorted(rows) == [step.index for step in failure.trace.steps]
    for step in failure.trace.steps:
        lanes = rows[step.index][1 : 1 + failure.trace.cpus]
        assert lanes.pop(step.cpu).startswith(str(wording.words_of(step)))
        assert not any(lanes)


def test_a_preemption_is_marked_and_a_switch_at_an_end_is_marked_differently():
    marks = {index: row[0] for index, row in steps_in(failures.failed_check().report()).items()}
    assert marks == {0: "", 1: "preempt", 2: "", 3: "switch"}


def test_every_step_shows_the_line_of_source_that_made_it():
    for row in steps_in(failures.torn().report()).values():
        place, _, text = row[-1].partition(" ")
        line = int(re.fullmatch(r"failures\.py:(\d+)", place)[1])
        with open(failures.__file__) as source:
            assert source.read().splitlines()[line - 1].strip() == text


def test_exactly_the_two_steps_of_the_conflict_are_marked():
    for scenario, mark in (
        (failures.race, "race"),
        (failures.torn, "torn"),
        (failures.failed_check, "order"),
    ):
        failure = scenario()
        rows = steps_in(failure.report())
        marked = [index for index, row in rows.items() if f"<< {mark}" in " ".join(row)]
        assert tuple(marked) == failure.trace.conflict


def test_the_pair_is_repeated_with_place_function_and_source():
    text = "\n".join(section(failures.race().report(), "The two accesses that race:"))
    line = failures.site_of(failures.increment, failures.READ_WRITE).line
    assert "step 0, cpu 0: read [0] = 0" in text
    assert "step 2, cpu 1: write [0] <- 1" in text
    assert text.count(f"failures.py:{line} in increment") == 2
    assert text.count("mem[0] = mem[0] + 1") == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (of_step(ops.OP_READ, value=3), "read [6] = 3"),
        (of_step(ops.OP_LOAD_RELAXED, value=3), "load_relaxed [6] = 3"),
        (of_step(ops.OP_LOAD2, value=3, second=4), "load2 [6, 7] = 3, 4"),
        (of_step(ops.OP_STORE, value=3), "store [6] <- 3"),
        (of_step(ops.OP_FLUSH, value=3), "flush [6] <- 3"),
        (of_step(ops.OP_CAS, value=1), "cas [6] ok"),
        (of_step(ops.OP_CAS2, value=0), "cas2 [6, 7] failed"),
        (of_step(ops.OP_EXCHANGE, value=3), "exchange [6] found 3"),
        (of_step(ops.OP_FETCH_ADD, value=3), "fetch_add [6] found 3"),
        (of_step(ops.OP_WAIT, value=1), "wait [6] slept"),
        (of_step(ops.OP_WAIT, value=0), "wait [6] did not sleep"),
        (of_step(ops.OP_WAKE, value=2), "wake [6] woke 2"),
        (of_step(ops.OP_FENCE), "fence"),
        (of_step(ops.OP_RELAX), "relax"),
        (of_step(ops.OP_LOAD, value=1 << 40), "load [6] = 0x10000000000"),
    ],
)
def test_a_step_is_said_in_the_words_of_kernels(said, expected):
    assert said == expected


def test_a_place_without_a_file_is_still_named():
    failure = failures.race()
    lost = Site("gone.py", 12, "kernel")
    steps = tuple(replace(step, stack=(lost,)) for step in failure.trace.steps)
    text = replace(failure, trace=replace(failure.trace, steps=steps)).report()
    assert "gone.py:12 in kernel" in text


# --- store buffers -------------------------------------------------------------------------------
def test_a_buffered_store_says_when_it_became_visible_and_the_flush_of_which_store_it_is():
    rows = steps_in(failures.store_buffering().report(200))
    assert "(visible at 4)" in rows[0][1]
    assert "(of step 0)" in rows[4][1]
    assert "(of step 2)" in rows[5][2]


def test_a_flush_shows_the_source_of_its_store():
    rows = steps_in(failures.store_buffering().report(200))
    assert rows[4][-1] == rows[0][-1] != ""
    assert rows[5][-1] == rows[2][-1] != ""


def test_a_store_that_was_never_flushed_says_so():
    failure = failures.store_buffering()
    failure = replace(
        failure, trace=replace(failure.trace, steps=failure.trace.steps[:4], conflict=None)
    )
    assert wording.buffer_notes(failure) == {0: "not visible yet", 2: "not visible yet"}


def test_a_read_of_a_cpus_own_buffered_store_says_so_until_the_flush():
    def act(op, address, value):
        return failures.Act(0, op, address, value)

    acts = [
        act(ops.OP_STORE, 0, 1),
        act(ops.OP_LOAD, 0, 1),
        act(ops.OP_LOAD, 4, 0),
        act(ops.OP_FLUSH, 0, 1),
        act(ops.OP_LOAD, 0, 1),
    ]
    program = failures.store_buffering().program
    notes = wording.buffer_notes(failures.build(program, "check", acts, "", memory_model="pso"))
    assert {index for index, note in notes.items() if note == "from its own buffer"} == {1}


def test_of_two_stores_to_one_word_the_older_is_flushed_first():
    acts = [
        failures.Act(0, ops.OP_STORE, 0, 1),
        failures.Act(0, ops.OP_STORE, 0, 2),
        failures.Act(0, ops.OP_FLUSH, 0, 1),
    ]
    failure = failures.build(
        failures.store_buffering().program, "check", acts, "", memory_model="tso"
    )
    assert wording.buffer_notes(failure) == {
        0: "visible at 2",
        1: "not visible yet",
        2: "of step 0",
    }


def test_under_sc_no_store_is_said_to_be_buffered():
    assert "visible" not in failures.failed_check().report()


# --- waiting -------------------------------------------------------------------------------------
def test_the_cycle_of_a_deadlock_is_one_sentence_that_ends_where_it_began():
    sentence = "cpu 0 spins on word 4 held by cpu 1, which waits for word 2 held by cpu 0"
    assert sentence in failures.deadlock().report().splitlines()


def test_a_blocked_cpu_shows_how_it_came_there():
    text = failures.deadlock().report()
    outer = failures.site_of(failures.four_then_two, "lock(mem, 2, cpu)").line
    assert f"failures.py:{outer} in four_then_two" in text
    assert "called from" in text


def test_a_cpu_outside_of_the_cycle_has_a_sentence_of_its_own():
    blocked = (
        Blocked(0, 4, 1, False, None),
        Blocked(1, 2, 0, False, None),
        Blocked(2, 9, None, True, None),
    )
    assert wording.cycle_of(blocked) == blocked[:2]
    assert wording.waiting_lines(blocked)[1:] == ["cpu 2 spins on word 9"]


def test_a_cpu_that_waits_for_itself_is_a_cycle():
    alone = (Blocked(0, 4, 0, False, None),)
    assert wording.waiting_lines(alone) == ["cpu 0 waits for word 4 held by cpu 0"]
    assert wording.cycle_of(alone) == alone


def test_without_known_holders_there_is_no_cycle():
    assert (
        wording.cycle_of((Blocked(0, 4, None, False, None), Blocked(1, 4, None, False, None))) == ()
    )


# --- what was not performed ----------------------------------------------------------------------
def test_an_access_outside_of_memory_is_shown_with_the_size_of_memory():
    text = "\n".join(section(failures.out_of_range().report(), "Not performed, cpu 0:"))
    assert "write [99] (outside memory, 0..15)" in text
    assert "mem[99] = 5" in text


@pytest.mark.parametrize(
    ("kind", "op", "address", "reason"),
    [
        ("memory", ops.OP_LOAD2, 3, "odd address of a pair"),
        ("memory", ops.OP_LOAD2, 17, "outside memory, 0..15"),
        ("undefined", ops.OP_READ, 3, "never written"),
        ("stack", ops.OP_READ, 3, "stack overflow"),
    ],
)
def test_a_fault_says_why_it_was_not_performed(kind, op, address, reason):
    failure = replace(failures.out_of_range(), kind=kind)
    fault = replace(failure.trace.fault, op=op, address=address)
    assert wording.fault_reason(failure, fault) == reason


def test_a_failure_before_the_first_step_is_reported():
    failure = failures.out_of_range()
    failure = replace(failure, trace=replace(failure.trace, steps=()))
    assert "Not performed, cpu 0: write [99]" in failure.report()


# --- leaving out ---------------------------------------------------------------------------------
def test_long_runs_are_folded_and_the_pair_in_the_middle_of_them_is_not():
    failure = failures.long_run(40)
    rows = steps_in(failure.report())
    assert len(rows) < 60
    assert {0, 39, 40, 79} - set(rows) == {0}  # the first step affects no other
    assert set(failure.trace.conflict) <= set(rows)
    hidden = sum(int(n) for n in re.findall(r"\.\.\. (\d+) steps", failure.report()))
    assert hidden + len(rows) == 80


def test_folding_keeps_every_step_that_matters_and_counts_every_other(rng):
    for _ in range(200):
        trace = random_trace(rng)
        shown = folded(trace, margin=rng.randint(0, 3), shortest=rng.randint(1, 6))
        kept = {item.index for item in shown if isinstance(item, Step)}
        switches = {
            k for step in trace.steps[1:] if step.switched for k in (step.index - 1, step.index)
        }
        last = {step.cpu: step.index for step in trace.steps}
        assert kept >= switches | set(last.values()) | set(trace.conflict)
        covered = []
        for item in shown:
            if isinstance(item, Step):
                covered.append(item.index)
                continue
            covered += range(item.first, item.last + 1)
            assert {trace.steps[k].cpu for k in range(item.first, item.last + 1)} == {item.cpu}
        assert covered == list(range(len(trace.steps)))


# --- the shape -----------------------------------------------------------------------------------
@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_but_the_one_to_copy_fits_the_width(width):
    for failure in [scenario() for scenario in failures.ALL] + [
        failures.long_run(5, cpus) for cpus in range(1, 9)
    ]:
        wide = [line for line in failure.report(width).splitlines() if len(line) > width]
        assert [line for line in wide if "stress.replay(" not in line] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_cuts_what_a_step_did_nor_why_it_matters(width):
    for scenario in (failures.race, failures.deadlock, failures.torn, failures.store_buffering):
        failure = scenario()
        joined = "".join(re.sub(r"[|\s]", "", line) for line in failure.report(width).splitlines())
        for step in failure.trace.steps:
            assert str(wording.words_of(step)).replace(" ", "") in joined


def test_eight_cpus_share_one_column_where_eight_would_be_too_narrow():
    rows = steps_in(failures.long_run(3, cpus=8).report(120))
    assert [row[1] for row in rows.values()] == [f"cpu {cpu}" for cpu in range(8) for _ in range(3)]


def test_there_are_no_colours_even_where_they_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    assert "\x1b" not in failures.race().report()


# --- last lines ----------------------------------------------------------------------------------
@pytest.mark.parametrize("token", [failures.TOKEN, "it's/one,token $HOME " + "x" * 200])
def test_the_last_line_repeats_it_in_one_piece(token):
    last = replace(failures.race(), schedule=token).report(60).splitlines()[-1]
    assert last.strip() == f"print(stress.replay(program, {token!r}).report())"


def test_the_last_line_is_a_command_where_a_new_process_finds_the_program():
    program = PROGRAMS["lock-try-try"]()
    last = (
        replace(failures.race(), program=program, schedule="it's a token").report().splitlines()[-1]
    )
    assert shlex.split(last) == ["shmstress", "replay", "it's a token"]


def test_counts_tell_how_it_was_found_and_shrunk():
    assert failures.race().facts == [
        "found after 12 schedules",
        "shrunk in 5 replays (0.02 s)",
        "1 preemption",
    ]


def test_shrinking_that_did_not_finish_says_so():
    unfinished = replace(failures.race(), shrunk=False)
    assert unfinished.facts[1].startswith("shrinking not finished after 5 replays")
    assert replace(unfinished, replays=0).facts[1] == "not shrunk"


def test_results_are_shown_where_all_cpus_returned_and_nowhere_else():
    assert "returned: cpu 0 = 10, cpu 1 = 11" in failures.failed_check().report().splitlines()
    race = failures.race()
    ended_early = replace(race, trace=replace(race.trace, returns=(0, 0)))
    assert "returned" not in ended_early.report()


def test_the_words_that_were_accessed_are_shown_as_they_were_at_the_end():
    assert "memory at the end: [6] = 1, [7] = 1" in failures.torn().report().splitlines()


def test_what_the_explorer_finds_is_reported_with_the_lines_of_its_kernels():
    program = Program(
        "lost", 2, [failures.increment, failures.increment], check=failures.both_counted
    )
    failure = explore(program, strategy="dfs", engine="interpreted", races=False).failure
    rows = steps_in(failure.report(160))
    assert len(rows) == 4
    assert {row[-1].partition(" ")[2] for row in rows.values()} == {failures.READ_WRITE}
    assert failure.schedule in failure.report().splitlines()[-1]
