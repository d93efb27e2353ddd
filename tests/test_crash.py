"""Crash mode: the toy of crash_programs.py recovered rightly and wrongly, and the allocator."""

import json
from dataclasses import replace
from functools import cache

import pytest

import stress
from crash_programs import (
    DIED,
    PROGRAM,
    balanced,
    case_of,
    mends,
    never,
    recover_in_haste,
    recover_lock_only,
    recover_nothing,
    recover_well,
    transfer,
    transfers,
)
from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.kernels.pages import alloc_pages, free_pages
from stress.cli import run as shmstress
from stress.crash import CrashCase, Effort, crash
from stress.crash.account import account_of, tell
from stress.crash.adapt import left_out
from stress.crash.allocator import allocator_case, case_names
from stress.crash.operation import VARIANTS
from stress.crash.operations import OPERATIONS, VARIED
from stress.crash.report import missing
from stress.crash.result import AT_END
from stress.crash.runner import Runner
from stress.crash.schedules import Schedule, schedules_of
from stress.crash.search import Hunt, spread
from stress.crash.sites import PUBLIC, coverage, reachable, write_sites
from stress.explorer.report import document, html

TRANSFER_WRITES = 7
FIRST = Schedule.parse("order-0.1@at-once", 2)


@pytest.fixture(params=["native", "interpreted"])
def engine(request):
    return request.param


@cache
def hunted(recover, engine, depth=1):
    return Hunt(case_of(recover), Effort(depth=depth, engine=engine, again=100, seeds=6)).run()


def test_a_right_recovery_is_never_at_fault(engine):
    result = hunted(recover_well, engine, depth=2)
    assert (result.verdict, result.failures) == ("passed", [])
    assert result.total().recovered == result.total().crashes > 100
    assert result.total(second=True).recovered == result.total(second=True).crashes > 400


def test_a_check_that_writes_is_refused_with_its_line(engine):
    effort = Effort(engine=engine, again=0, seeds=1)
    with pytest.raises(MisuseError, match=r"check wrote word \d+ at .*crash_programs.py:\d+ in"):
        crash(PROGRAM, recover_well, DIED, mends, effort=effort)


def test_threads_of_a_case_keep_their_arguments(engine):
    program = replace(PROGRAM, threads=[(transfers, 1), (transfers, 0)], arguments=())
    result = crash(program, recover_well, DIED, effort=Effort(engine=engine, again=0, seeds=1))
    assert (result.verdict, result.failures) == ("passed", [])


def test_a_recovery_that_does_nothing_leaves_the_others_spinning(engine):
    result = hunted(recover_nothing, engine)
    assert "livelock" in {failure.kind for failure in result.failures}


def test_a_recovery_that_only_opens_the_lock_leaves_half_a_transfer(engine):
    result = hunted(recover_lock_only, engine)
    assert [(f.kind, f.code) for f in result.failures] == [("failed", 2)]
    assert "mem[B] = mem[B]" in tell(result.failures[0])


def test_a_recovery_that_may_not_die_itself_is_found_only_by_a_second_crash(engine):
    assert hunted(recover_in_haste, engine).verdict == "passed"
    again = hunted(recover_in_haste, engine, depth=2)
    assert again.verdict == "failed"
    assert all(failure.then > 0 for failure in again.failures)


def test_a_cpu_dies_before_each_of_its_writes_and_once_at_its_end(engine):
    runs = list(Runner(case_of(recover_well), engine).sweep(FIRST, 0))
    assert [run.at_end for run in runs] == [False] * TRANSFER_WRITES + [True]
    assert all(run.deaths == 1 for run in runs)


@pytest.mark.parametrize("recover", [recover_well, recover_nothing, recover_in_haste])
def test_both_engines_come_to_the_same_end_of_every_run(recover):
    runners = [Runner(case_of(recover), engine) for engine in ("native", "interpreted")]
    for schedule in schedules_of(2, seeds=4):
        for victim in (0, 1):
            ends = [list(runner.sweep(schedule, victim)) for runner in runners]
            assert ends[0] == ends[1]
            ends = [list(runner.sweep_again(schedule, victim, 4)) for runner in runners]
            assert ends[0] == ends[1]


def test_a_stride_skips_points_of_the_supervisor_but_not_its_end(engine):
    runner = Runner(case_of(recover_well), engine)
    every = list(runner.sweep_again(FIRST, 0, 5))
    third = list(runner.sweep_again(FIRST, 0, 5, first=2, stride=3))
    points = [then for then, _ in every]
    assert points == list(range(1, len(every) + 1))
    assert [then for then, _ in third] == sorted({*points[1::3], points[-1]})
    assert third[-1][1].at_end


def test_the_options_of_a_failure_show_it_again():
    failure = hunted(recover_in_haste, "interpreted", depth=2).failures[0]
    call = failure.again().removeprefix("print(").removesuffix(")")
    again = eval(call, {"stress": stress, "case": failure.case})
    assert (again.run.kind, again.run.code) == (failure.kind, failure.code)
    assert again.run.deaths == 2


def test_a_trace_names_the_line_that_was_not_reached_and_the_deaths():
    failure = hunted(recover_in_haste, "interpreted", depth=2).failures[0]
    text = tell(failure)
    assert failure.key.site.function in text
    assert "cpu 0 dies" in text
    assert "cpu 2 dies" in text
    assert failure.command in text


@cache
def unrecovered():
    """Failures of an allocator's case whose supervisor does nothing, by how they end."""
    case = replace(allocator_case("buddy-merge-take"), recover=recover_nothing)
    result = Hunt(case, Effort(engine="interpreted", seeds=0)).run()
    return {failure.ending: failure for failure in reversed(result.failures)}


def test_a_failure_of_a_case_names_the_code_and_the_words_of_the_segment():
    assert {"deadlock", f"check {c.I_PROGRESS} I_PROGRESS"} <= unrecovered().keys()
    text = tell(unrecovered()[f"check {c.I_PROGRESS} I_PROGRESS"])
    assert "I_PROGRESS: every worker makes progress" in text and "zone 0 lock" in text
    assert "cas zone 0 lock: free -> held by claim 0" in text


def test_a_death_says_which_access_it_prevented_and_how_the_kernel_came_there():
    lines = tell(unrecovered()["deadlock"]).splitlines()
    assert lines[1].startswith("cpu 0 died before its write 2: write zone 0 list order 0")
    assert "kernels/lists.py:" in lines[2] and "called from" in lines[3]
    assert sum("cpu 0 dies" in line for line in lines) == 1


def test_supervisors_that_never_began_have_no_lane():
    assert account_of(unrecovered()["deadlock"]).lanes == ["cpu 0 take_page", "cpu 1 put_block"]


def test_a_crash_is_a_page_and_a_document_as_any_failure_is():
    account = account_of(unrecovered()["deadlock"])
    page, described = html.render(account), document.described(account)
    assert "cpu 0 dies" in page and "zone 0 lock" in page
    assert [marker["text"] for marker in described["markers"]] == ["cpu 0 dies"]
    assert described["headline"] == "buddy-merge-take: deadlock; cpu 0 died before its write 2"


def test_the_command_writes_a_document_and_a_page_of_the_first_failure(tmp_path, capsys):
    page, script = tmp_path / "crash.html", tmp_path / "hasty.py"
    script.write_text(
        "from crash_programs import case_of, recover_in_haste\nHASTY = case_of(recover_in_haste)\n"
    )
    words = f"crash {script}:HASTY --seeds 0 --depth 2 --engine interpreted"
    assert shmstress([*words.split(), "--json", "-", "--html", str(page)]) == 1
    output, errors = capsys.readouterr()
    found = json.loads(output)
    assert (found["verdict"], found["crashes"]["failed"]) == ("failed", 0)
    first, *_ = found["failures"]
    assert first["then"] > 0 and "--then" in first["again"]
    assert found["first_failure"]["headline"].startswith("transfer: check 2; cpu ")
    assert "cpu 0 dies" in page.read_text() and "to see it again" in errors


def test_every_step_of_a_crash_is_shown_on_request():
    failure = unrecovered()["deadlock"]
    text = tell(failure, full=True)
    assert "..." not in {line.split("|")[0].strip() for line in text.splitlines()}
    steps = len(account_of(failure).trace.steps)
    assert {str(step) for step in range(steps)} <= {
        line.split("|")[0].strip() for line in text.splitlines()
    }


def test_a_program_that_fails_without_a_death_is_reported_as_such():
    broken = CrashCase(PROGRAM, recover_well, DIED, never)
    result = Hunt(broken, Effort(seeds=0, engine="interpreted")).run()
    assert {failure.point for failure in result.failures} == {0}
    assert {failure.key.site for failure in result.failures} == {AT_END}
    assert str(result.failures[0]) == "transfer: check 3, although no CPU died"


def test_crash_takes_the_programs_own_check_where_none_is_given():
    result = crash(PROGRAM, recover_well, DIED, effort=Effort(seeds=0, engine="interpreted"))
    assert result.verdict == "passed"


def test_only_the_chosen_victims_die():
    effort = Effort(seeds=0, engine="interpreted")
    one = crash(PROGRAM, recover_well, DIED, balanced, victims=[1], effort=effort)
    both = crash(PROGRAM, recover_well, DIED, balanced, effort=effort)
    assert one.total().crashes * 2 == both.total().crashes


@pytest.mark.parametrize("died", [-1, PROGRAM.words - 3])
def test_words_for_the_dead_that_do_not_fit_are_refused(died):
    with pytest.raises(MisuseError, match="died"):
        CrashCase(PROGRAM, recover_well, died, balanced)


def test_a_victim_that_is_no_cpu_is_refused():
    with pytest.raises(MisuseError, match="victims"):
        CrashCase(PROGRAM, recover_well, DIED, balanced, victims=[2])


@pytest.mark.parametrize("arguments", [{"depth": 3}, {"stride": 0}, {"seeds": -1}, {"seconds": 0}])
def test_an_effort_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(MisuseError, match=next(iter(arguments))):
        Effort(**arguments)


@pytest.mark.parametrize("name", ["order-1.0@after", "random-17@beside", "class-4@at-once"])
def test_a_schedule_is_read_as_it_is_printed(name):
    assert str(Schedule.parse(name, 2)) == name


@pytest.mark.parametrize("name", ["order-0@after", "order-0.0@after", "random-1", "class-1@never"])
def test_what_is_no_schedule_is_refused(name):
    with pytest.raises(MisuseError, match="schedule"):
        Schedule.parse(name, 2)


def test_classes_of_dpor_are_schedules_too(engine):
    effort = Effort(seeds=0, classes=100, engine=engine)
    result = Hunt(case_of(recover_well), effort).run()
    orders = len(schedules_of(2))
    assert result.verdict == "passed"
    assert result.schedules > orders


# --- the allocator -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", case_names())
def test_a_case_of_the_allocator_passes_without_a_death(name):
    runner = Runner(allocator_case(name), "interpreted")
    run = runner.run(FIRST if runner.case.living == 2 else schedules_of(runner.case.living)[0])
    assert (run.kind, run.code) == ("passed", 0)


@pytest.mark.parametrize("name", case_names())
def test_a_case_of_the_allocator_waits_for_nothing_that_only_the_dead_would_have_done(name):
    case = allocator_case(name)
    runner = Runner(case, "interpreted")
    schedule = FIRST if case.living == 2 else schedules_of(case.living)[0]
    runs = [runner.run(schedule, victim, 1) for victim in range(case.living)]
    assert [(run.kind, run.code) for run in runs] == [("passed", 0)] * case.living


SMALL = ("buddy-merge-take", "slab-free-free", "pcp-drain-alloc")


@pytest.mark.parametrize("name", SMALL)
def test_the_allocator_recovers_from_every_crash_of_a_small_program(name):
    result = Hunt(allocator_case(name), Effort(seeds=0, engine="interpreted")).run()
    print(result.failures[0].command if result.failures else "")
    assert (result.verdict, result.total().cut) == ("passed", 0)
    assert result.total().crashes > 50


def test_without_recovery_the_allocator_does_not_survive():
    good = allocator_case("buddy-merge-take")
    bad = CrashCase(good.program, recover_nothing, good.died, good.check)
    result = Hunt(bad, Effort(seeds=0, engine="interpreted")).run()
    assert result.total().failed > result.total().crashes // 2


def test_every_public_operation_has_write_sites_and_a_case_reaches_them():
    known = coverage([])
    assert [one.name for one in known if not one.known] == []
    assert len(known) == len(PUBLIC) + 1
    threads = {thread for name in case_names() for thread in allocator_case(name).model().threads}
    assert set(PUBLIC) <= {kernel for thread in threads for kernel in reachable(thread)}


def test_a_store_and_a_swap_are_write_sites_and_a_read_is_none():
    sites = {site.line - transfer.__code__.co_firstlineno for site in write_sites(transfer)}
    assert len(sites) == TRANSFER_WRITES  # one of them in take


def test_programs_without_a_case_say_why():
    assert left_out("lock-sleep-2") and left_out("sync-mutex")
    with pytest.raises(MisuseError, match="lock-sleep-2"):
        allocator_case("lock-sleep-2")


def test_the_command_shows_one_run_and_says_how_it_ended(capsys):
    options = "crash buddy-merge-take --schedule order-0.1@after --victim 1 --write 3"
    assert shmstress([*options.split(), "--engine", "interpreted"]) == 0
    assert "cpu 1 died before its write 3: cas zone 0 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("crash buddy-merge-tak", "did you mean 'buddy-merge-take'"),
        ("crash wait-list-wake --schedule order-0.1@sometime", "recovery 'sometime'; use at-once"),
        (
            "crash wait-list-wake --schedule order-0.1@after --victim 7 --write 1",
            "victim: 7; use 0",
        ),
        ("crash --depth 3 wait-list-wake", "use 1, or 2"),
        ("crash nothing-*", "known are"),
    ],
)
def test_bad_options_are_usage_errors(options, text, capsys):
    assert shmstress(options.split()) == 4
    assert text in capsys.readouterr().err


def test_a_call_that_only_a_violation_makes_is_not_counted():
    reached = {function.__name__ for function in reachable(alloc_pages)}
    assert not {"retire_changed", "repair_zone", "retire_marked", "forget_links"} & reached


@pytest.mark.parametrize("entry", [alloc_pages, free_pages], ids=lambda entry: entry.__name__)
def test_a_page_that_was_marked_leaves_service_without_a_violation(entry):
    """... when it is freed, or when a holder of the lock frees what others have deferred."""
    assert "unmanage" in {site.function for site in write_sites(entry)}


@pytest.mark.parametrize("variant", VARIED)
def test_an_operation_in_another_world_says_so(variant):
    name = f"{VARIED[variant][0]}+{variant}"
    assert OPERATIONS[name].story.endswith(VARIANTS[variant].story)
    assert allocator_case(name).living >= 2


def test_a_variant_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(MisuseError, match=r"did you mean 'pages-bulk\+waiter'"):
        allocator_case("pages-bulk+wait")


def test_what_was_not_tried_is_told_for_all_and_for_each_operation():
    known = coverage([("free_pages", site) for site in write_sites(free_pages)])
    text = missing(known, by_operation=True)
    pairs = sum(len(write_sites(operation)) for operation in PUBLIC)
    found = len(write_sites(free_pages))
    assert f"sites in each operation that can reach them: {found}/{pairs:,}" in text
    assert "not tried in alloc_pages:" in text and "not tried in free_pages:" not in text


@pytest.mark.parametrize(
    ("count", "chosen", "numbers"),
    [(16, 2, {0, 8}), (4, 100, {0, 1, 2, 3}), (5, 0, set()), (7, 3, {0, 2, 4})],
)
def test_second_deaths_are_spread_over_all_kinds_of_schedules(count, chosen, numbers):
    assert spread(count, chosen) == numbers
