"""The seam: one kernel source on fibers and greenlets, with equal events and verdicts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import model_programs as m
import shmalloc
from shmalloc.dialect import kernel
from shmalloc.engine import ops
from shmalloc.errors import EngineError, MisuseError
from stress.explorer.explore import explore
from stress.explorer.strategies.loop import STOP_ON_FAILURE
from stress.explorer.strategies.table import RANDOM
from stress.machine import block as cb
from stress.machine.interpreted import InterpretedMachine
from stress.machine.native import STACK_BYTES
from stress.machine.program import Program
from support.schedules import Ending, RandomSchedules

LOST_UPDATE = Program("test", 8, (m.increment, m.increment), check=m.expect_two)
STACK = [(0, 2), (2, 4), (4, 6), (6, 0)]
ABA = Program("test", 32, (m.pop_and_keep, m.pop_two_push_one), init=STACK, check=m.owned_once)


Model = Callable[..., RandomSchedules]


@pytest.fixture(params=["native", "interpreted"])
def model(request: pytest.FixtureRequest) -> Model:
    return partial(RandomSchedules, request.param)


def threads(*kernels: FunctionType, **options: object) -> Program:
    return Program("test", 8, kernels, **options)  # type: ignore[arg-type]


def both(program: Program, seed: int, schedules: int = 1) -> tuple[Ending, Ending]:
    native = RandomSchedules("native", program, step_limit=400, idle_limit=20, log=True)
    python = RandomSchedules("interpreted", program, step_limit=400, idle_limit=20, log=True)
    return native.run(seed, schedules), python.run(seed, schedules)


def assert_same(native: Ending, python: Ending) -> None:
    assert native.events == python.events
    assert native.verdict == python.verdict
    assert (native.code, native.returns) == (python.code, python.returns)
    assert native.fault == python.fault
    assert (native.steps, native.failing_seed) == (python.steps, python.failing_seed)
    assert np.array_equal(native.memory, python.memory)


# --- bugs are found ------------------------------------------------------------------------------
def test_a_lost_update_is_found(model):
    result = model(LOST_UPDATE).run(seed=1, schedules=1000)
    assert (result.verdict, result.code) == ("failed", -1)


def test_a_failing_seed_fails_again_alone(model):
    seed = model(LOST_UPDATE).run(seed=5, schedules=1000).failing_seed
    assert model(LOST_UPDATE).run(seed=seed).verdict == "failed"


def test_the_same_seed_loses_the_update_with_the_same_events_on_both_engines():
    native, python = both(LOST_UPDATE, seed=1, schedules=1000)
    assert native.verdict == "failed"
    assert_same(native, python)


def test_aba_on_a_treiber_stack_is_found(model):
    assert model(ABA).run(seed=1, schedules=20_000).verdict == "failed"


def test_aba_is_found_by_the_same_seed_on_both_engines():
    native, python = both(ABA, seed=1, schedules=20_000)
    assert native.verdict == "failed"
    assert_same(native, python)


# --- sleeping and spinning -----------------------------------------------------------------------
def test_two_sleepers_without_a_waker_are_a_deadlock(model):
    program = threads(m.sleep_on_flag, m.sleep_on_flag)
    assert model(program).run(schedules=10).verdict == "deadlock"


def test_a_waker_prevents_the_deadlock_in_every_schedule(model):
    program = threads(m.sleep_on_flag, m.sleep_on_flag, m.raise_flag)
    assert model(program).run(schedules=500).verdict == "passed"


def test_a_forgotten_wake_is_a_deadlock(model):
    program = threads(m.sleep_on_flag, m.raise_flag_silently)
    assert model(program).run(schedules=500).verdict == "deadlock"


def test_a_spin_with_relax_ends_in_every_schedule(model):
    program = threads(m.spin_on_flag, m.spin_on_flag, m.raise_flag_silently)
    result = model(program, step_limit=50).run(schedules=500)
    assert (result.verdict, result.abandoned) == ("passed", 0)


def test_a_relaxing_cpu_is_not_chosen_before_another_made_a_step(model):
    program = threads(m.spin_on_flag, m.raise_flag_silently, m.increment)
    for seed in range(100):
        events = model(program, log=True).run(seed).events
        for index, event in enumerate(events[:-1]):
            others_left = any(later.cpu != event.cpu for later in events[index + 1 :])
            if event.op == ops.OP_RELAX and others_left:
                assert events[index + 1].cpu != event.cpu


def test_spinning_on_a_word_that_is_never_written_is_a_livelock(model):
    program = threads(m.spin_on_flag, m.spin_on_flag)
    assert model(program).run(schedules=10).verdict == "livelock"


def test_a_bounded_spin_gives_up_where_all_others_sleep_or_spin(model):
    program = threads(m.spin_three_times, m.spin_three_times)
    result = model(program).run(schedules=100)
    assert (result.verdict, result.returns) == ("passed", (0, 0))


def test_a_spin_without_relax_is_abandoned_at_the_step_limit(model):
    program = threads(m.spin_without_relax, m.spin_without_relax)
    result = model(program, step_limit=100).run(schedules=3)
    assert (result.verdict, result.abandoned, result.steps) == ("abandoned", 3, 300)


# --- memory safety -------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel", [m.write_behind_the_end, m.fixed_behind_the_end, m.odd_pair])
def test_an_access_outside_of_memory_is_a_verdict(model, kernel):
    result = model(threads(kernel, m.increment)).run(schedules=20)
    assert result.verdict == "memory"
    assert result.fault is not None
    assert result.fault.cpu == 0


def test_a_check_kernel_outside_of_memory_is_a_verdict(model):
    program = threads(m.increment, check=m.read_behind_the_end)
    assert model(program).run().verdict == "memory"


def test_the_machine_can_be_used_again_after_an_access_outside_of_memory(model):
    schedules = model(threads(m.write_behind_the_end, m.increment))
    schedules.run(schedules=20)
    assert schedules.run(seed=3, schedules=20).verdict == "memory"


def test_a_recursive_kernel_is_refused_by_name(model):
    with pytest.raises(EngineError, match="descend: recursion is not allowed"):
        model(threads(m.deep))


def test_a_stack_pointer_below_its_limit_is_a_verdict():
    schedules = RandomSchedules("native", threads(m.increment, m.increment))
    block = schedules.machine.block
    block[cb.LIMIT + 1] = block[cb.STACKS] + 2 * STACK_BYTES
    assert schedules.run().verdict == "stack"


def test_an_overwritten_guard_is_an_engine_error():
    schedules = RandomSchedules("native", threads(m.increment, m.increment))
    schedules.machine.guards[1][3] = 0
    with pytest.raises(EngineError, match="cpu 1"):
        schedules.run()


# --- schedules do not see each other -------------------------------------------------------------
def test_memory_is_reset_between_schedules(model):
    schedules = model(threads(m.increment, init=[(m.FLAG, 41)]))
    result = schedules.run(schedules=50)
    assert result.memory[m.FLAG] == 42


def test_marks_and_the_clock_are_part_of_the_schedule(model):
    program = Program("test", 32, (m.count_marks, m.count_marks))
    result = model(program).run(schedules=50)
    assert (result.memory[m.MARKS], result.returns, result.steps) == (2, (0, 0), 0)


def test_what_the_check_kernel_writes_is_undone(model):
    program = m.random_program(0)
    schedules = model(program, step_limit=400, idle_limit=20)
    fresh = model(program, step_limit=400, idle_limit=20).run(seed=9)
    for seed in range(9):
        schedules.run(seed)
    assert np.array_equal(schedules.run(seed=9).memory, fresh.memory)


@pytest.mark.parametrize("init", ["pairs", "kernel", "image"])
def test_initial_memory_is_pairs_a_kernel_or_an_image(model, init):
    image = np.zeros(8, dtype=np.int64)
    image[m.FLAG] = 7

    def write(mem):
        mem[m.FLAG] = 7

    forms = {"pairs": [(m.FLAG, 7)], "kernel": write, "image": image}
    result = model(threads(m.increment, init=forms[init])).run()
    assert result.memory[m.FLAG] == 8


def test_sixty_four_cpus_run(model):
    result = model(threads(*[m.increment] * 64), log=True).run()
    assert {event.cpu for event in result.events} == set(range(64))


# --- both engines agree --------------------------------------------------------------------------
@pytest.mark.parametrize("part", range(4))
def test_random_programs_have_equal_events_memories_and_verdicts(part):
    verdicts = set()
    for number in range(part * 100, part * 100 + 100):
        program = m.random_program(number)
        native = RandomSchedules("native", program, step_limit=400, idle_limit=20, log=True)
        python = RandomSchedules("interpreted", program, step_limit=400, idle_limit=20, log=True)
        for seed in range(5):
            result = native.run(seed)
            assert_same(result, python.run(seed))
            verdicts.add(result.verdict)
    assert verdicts >= {"passed", "failed", "deadlock", "livelock", "memory"}


@pytest.mark.parametrize(("memory", "own_ops"), [("sc", set()), ("tso", {ops.OP_FLUSH})])
def test_every_op_occurs_in_the_random_programs(memory, own_ops):
    options = {"step_limit": 400, "idle_limit": 20, "log": True, "model": memory}
    seen = {
        event.op
        for number in range(200)
        for event in RandomSchedules("native", m.random_program(number), **options).run(1).events
    }
    no_steps = {ops.OP_FIXED, ops.OP_MARK, ops.OP_FINISH}
    assert seen == set(ops.NAMES) - no_steps - {ops.OP_FLUSH} | own_ops


def test_traced_steps_know_file_line_and_function():
    machine = InterpretedMachine(LOST_UPDATE, trace=True)
    machine.block[STOP_ON_FAILURE] = 1
    machine.call(RANDOM["random"].driver(), 1, 1000)
    sites = [stack[0] for stack in machine.stacks()]
    assert len(sites) == machine.block[cb.STEPS] > 0
    assert {(Path(site.file).name, site.function) for site in sites} == {
        ("model_programs.py", "increment")
    }


# --- bad input -----------------------------------------------------------------------------------
@pytest.mark.parametrize("words", [0, 7, -2])
def test_an_odd_number_of_words_is_refused(words):
    with pytest.raises(MisuseError, match="words"):
        Program("test", words, (m.increment,))


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_of_cpus_that_cannot_run_is_refused(count):
    with pytest.raises(MisuseError, match="threads"):
        Program("test", 8, (m.increment,) * count)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(MisuseError, match="init"):
        threads(m.increment, init=np.zeros(4, dtype=np.int64))


def test_a_thread_that_is_no_kernel_of_mem_and_cpu_is_refused():
    for function in (m.expect_two, m.random_program):
        with pytest.raises(MisuseError, match="threads"):
            threads(function)


def test_a_check_with_the_arguments_of_a_thread_is_refused():
    with pytest.raises(MisuseError, match="check"):
        threads(m.increment, check=m.increment)


@pytest.mark.parametrize("engine", ["native", "interpreted"])
def test_a_seed_below_zero_is_refused(engine):
    with pytest.raises(MisuseError, match="seed"):
        explore(LOST_UPDATE, engine=engine, seed=-1)


def test_the_interpreted_model_needs_no_compiler():
    code = "import sys, stress.machine.interpreted; sys.exit('llvmlite' in sys.modules)"
    root = Path(shmalloc.__path__[0]).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@kernel
def gives_two(mem, cpu):
    return 1, 2


def test_a_thread_that_returns_several_results_is_refused(model):
    with pytest.raises(MisuseError, match="threads: gives_two returns several results"):
        model(threads(gives_two))
