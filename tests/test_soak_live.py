"""What a soak shows: a frame on a terminal, lines elsewhere, of the samples that are recorded."""

import io

import pytest
from rich.console import Console

from shmalloc import constants as c
from shmalloc.errors import Violation
from stress.progress import Step
from stress.run.memory import Snapshot
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment
from stress.soak.draw import Round
from stress.soak.live import Frame, LiveView, memory_by_role, rough
from stress.soak.messages import Outcome
from stress.soak.standing import Standing
from stress.soak.view import LineView
from stress.verdict import Verdict

MIB = 1 << 20
TAIL = Violation("I_TAIL", "pfn 5", "a tail", "a head")
ROUND = Round(35, "run", 5, "shmstress run", 20.0, "churn in 4 workers, 64MiB: fault:kill", {})
PASSED = Outcome(Verdict.PASSED, 1000, 20.0)
FAILED = Outcome(Verdict.FAILED, 7, 0.5, violations=(TAIL,))


def use(role, size):
    return ProcessUse(1, role, 2 * size, size, size, 9, 1, 0.5)


def moment(elapsed_s=12.0, free_by_order=(0,) * 9 + (2, 0)):
    snapshot = Snapshot((0,) * c.EV_COUNT, free_by_order, (0, 0), 1024, 0, 4096, 0)
    processes = (
        use("soak", 61 * MIB), use("controller", 80 * MIB), use("worker 0", 12 * MIB),
        use("worker 1", 14 * MIB),
    )  # fmt: skip
    return Moment(elapsed_s, 20.0, 3, snapshot, (), processes=processes)


def frame(spent_s=3600.0):
    standing = Standing()
    standing.add(ROUND, PASSED, ())
    standing.add(ROUND, FAILED, ("56f3069b858a",))
    return Frame(8 * 3600.0, standing, lambda: spent_s)


def drawn(one, width=100):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, color_system=None).print(one)
    return out.getvalue().splitlines()


# --- the frame -----------------------------------------------------------------------------------
def test_the_headline_has_time_rounds_and_findings():
    headline = drawn(frame())[0]
    assert headline.startswith("soak ███░") and " 12% 1h of 8h, until " in headline
    assert headline.endswith("2 rounds, 1 finding")


def test_rounds_are_counted_by_kind_and_verdict():
    assert drawn(frame())[1] == "  run 1 passed 1 failed"


def test_a_round_is_shown_in_words_with_its_time():
    one = frame()
    one.begin("round 35 (run): churn in 4 workers, 64MiB: fault:kill")
    one.take(moment())
    assert drawn(one)[2] == "round 35 (run): churn in 4 workers, 64MiB: fault:kill  12s of 20s"


def test_an_exploration_is_shown_by_its_steps():
    one = frame()
    one.begin("round 36 (explore): buddy-merge-take")
    one.going = Step("buddy-merge-take", 5.0, 10.0, "1,200 schedules")
    assert drawn(one)[2].endswith("buddy-merge-take: 50% 1,200 schedules")


def test_memory_is_shown_by_role():
    assert list(memory_by_role(moment().processes)) == [
        "soak 61MiB", "controller 80MiB", "2 workers 14MiB each at most",
    ]  # fmt: skip


def test_fragmentation_is_a_line_of_bars_that_ends_with_its_number():
    one = frame()
    for free in ((0,) * 10 + (1,), (512, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0), (1024,) + (0,) * 10):
        one.take(moment(free_by_order=free))
    line = next(line for line in drawn(one) if "fragmentation" in line)
    assert line == "  fragmentation ▁▄█ 1.00"


def test_a_new_round_forgets_the_samples_of_the_last_one():
    one = frame()
    one.take(moment())
    one.begin("round 36 (run): frag")
    assert not [line for line in drawn(one) if "fragmentation" in line or "memory" in line]


def test_findings_are_shown_with_the_number_of_their_rounds():
    one = frame()
    one.findings["56f3069b858a"] = "round 12: I_TAIL"
    assert drawn(one)[-1] == "!!! 56f3069b858a 1 round: round 12: I_TAIL"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    one = frame()
    one.findings["56f3069b858a"] = "I_TAIL " * 40
    one.begin("round 35 " * 20)
    one.take(moment())
    assert max(map(len, drawn(one, width))) <= width


@pytest.mark.parametrize(
    "seconds, text",
    [(45, "45s"), (60, "1m"), (725, "12m 5s"), (28_740, "7h 59m"), (28_800, "8h")],
)
def test_times_have_two_units_at_most(seconds, text):
    assert rough(seconds) == text


def test_only_rounds_that_did_not_pass_stay_above_the_frame(capsys):
    view = LiveView()
    view.ended(ROUND, PASSED)
    view.ended(ROUND, FAILED)
    assert capsys.readouterr().err.count("round 35 (run): FAILED") == 1


# --- lines ---------------------------------------------------------------------------------------
def test_a_round_is_a_line_where_no_terminal_is():
    lines = []
    view = LineView(lines.append)
    view.round(ROUND)
    view.ended(ROUND, PASSED)
    assert len(lines) == 1 and lines[0].startswith("round 35 (run): PASSED after ")
    assert lines[0].endswith("s, 1,000 operations; churn in 4 workers, 64MiB: fault:kill\n")


def test_a_finding_is_a_line_for_grep():
    lines = []
    LineView(lines.append).finding("56f3069b858a", "round 12: I_TAIL")
    assert lines == ["!!! 56f3069b858a: round 12: I_TAIL\n"]
