"""``--faults``: texts to faults and back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmalloc.errors import MisuseError
from stress import cli
from stress.commands.run import with_fit_workloads
from stress.faults.grammar import Fail, Hotplug, Kill, Pressure, Stop, parse_faults
from stress.run.fault_tally import FaultTally
from stress.run.result import RunResult
from stress.spec import RawSpec, resolve
from stress.workloads import DEFAULT_WORKLOADS, WORKLOADS

SECONDS = st.integers(1, 10**6).map(lambda ms: ms / 1000)
FAULTS = st.one_of(
    st.builds(Kill, SECONDS, st.none() | st.integers(1, 10**6).map(lambda n: range(n, 2 * n))),
    st.builds(Stop, SECONDS, SECONDS),
    st.builds(Fail, p=st.floats(1e-6, 1), kind=st.sampled_from([None, "page", "object"])),
    st.builds(Fail, every=st.integers(1, 10**6)),
    st.builds(Fail, nth=st.integers(1, 10**6)),
    st.builds(Pressure, st.integers(1, 100).map(lambda share: share / 100), SECONDS),
    st.builds(Hotplug, SECONDS),
)


def raw(**changes):
    given_texts = {
        "workload": ",".join(DEFAULT_WORKLOADS), "workers": "4", "ram": None, "zones": "1",
        "link_store": "page", "duration": "10s", "seed": "1", "engine": "native",
        "audit_every": "5s", "hang_timeout": "10s", "trace": None, "prealloc": False,
    }  # fmt: skip
    return RawSpec(**{**given_texts, **changes})


def spec_with(faults, **changes):
    return resolve(raw(faults=faults, **changes), WORKLOADS, 2)


@given(st.lists(FAULTS, min_size=1, max_size=4).map(tuple))
def test_a_fault_prints_as_text_that_parses_to_it_again(faults):
    assert parse_faults(",".join(map(str, faults))) == faults


def test_settings_behind_a_comma_belong_to_the_fault_before_them():
    parsed = parse_faults("kill:every=50ms,fuse=1..2000,stop:every=1s,for=300ms,hotplug")
    assert parsed == (Kill(0.05, range(1, 2001)), Stop(1.0, 0.3), Hotplug())


@pytest.mark.parametrize(
    "text, words",
    [
        ("kil:every=1s", "did you mean 'kill'"),
        ("kill:evry=1s", "did you mean 'every'"),
        ("fail:p=0.1,kind=pgae", "did you mean 'page'"),
        ("every=1s", "'every=1s' is unknown; known are kill,"),
        ("kill:every", "has no value"),
        ("kill:every=1s,every=2s", "given twice"),
        ("kill:every=soon", "^faults.kill.every: 'soon'; use a duration such as 100ms$"),
        ("kill:fuse=9..2", "1..2000"),
        ("fail", "one of p="),
        ("fail:p=2", "at most 1"),
        ("fail:nth=0", "at least 1"),
        ("pressure:pages=110%", "1% to 100%"),
        ("", "known are"),
    ],
)
def test_what_cannot_be_parsed_is_refused_with_a_cure(text, words):
    with pytest.raises(MisuseError, match=words):
        parse_faults(text)


def test_a_run_with_faults_repeats_as_a_command_line():
    spec = spec_with("kill:fuse=1..2000,fail:every=100,kind=page")
    text = str(spec.options()["faults"])
    assert text in spec.command_line() and spec_with(text) == spec


def test_a_stop_that_would_count_as_hung_is_refused():
    with pytest.raises(MisuseError, match="hang-timeout"):
        spec_with("stop:for=6s")


def test_faults_that_need_two_processes_are_refused_interpreted():
    with pytest.raises(MisuseError, match="not atomic"):
        spec_with("kill", engine="interpreted", workers="1", workload="churn")
    assert spec_with("fail:p=0.5", engine="interpreted", workers="1", workload="churn").faults


def test_workloads_that_hand_memory_over_are_left_out_of_the_default_list_under_kills():
    names = with_fit_workloads(spec_with("kill")).workloads
    assert "handoff" not in names and {"churn", "slabmix", "contig", "hotplug"} <= set(names)


def test_a_run_says_which_workloads_it_leaves_out_and_why(capsys):
    assert cli.run(["run", "--dry-run", "--faults", "kill", "--workers", "1"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "workload handoff is left out: it needs 2 workers, and there is 1",
        "workload hotplug is left out: it needs 2 workers, and there is 1",
    ]
    assert cli.run(["run", "--dry-run", "--faults", "kill", "--workers", "3"]) == 0
    told = capsys.readouterr().err
    assert told.startswith("workload handoff is left out: not with faults kill: its workers hand")


def test_workloads_of_several_workers_are_left_out_of_the_default_list_for_one():
    left_out = set(DEFAULT_WORKLOADS) - set(
        with_fit_workloads(spec_with("off", workers="1")).workloads
    )
    assert left_out == {"handoff", "hotplug"}
    asked = with_fit_workloads(spec_with("off", workers="1", workload="churn,handoff"))
    assert asked.workloads == ("churn", "handoff")


def test_a_workload_that_was_asked_for_and_cannot_run_under_a_fault_is_refused_with_the_reason():
    with pytest.raises(MisuseError, match="hand memory to each other"):
        with_fit_workloads(spec_with("kill", workload="churn,handoff"))


def test_with_live_faults_the_controller_has_a_slot_of_its_own():
    assert [spec_with(text).slots for text in ("kill", "fail:p=0.1")] == [5, 4]


def test_faults_that_never_happened_are_missed_marks():
    result = RunResult(spec_with("kill,kill:fuse=1..9,stop,pressure:pages=10%,fail:nth=1,hotplug"))
    wanted = {"killed", "killed-by-fuse", "stopped", "pressure", "fault", "unplugged"}
    assert wanted <= set(result.missed_marks())


def test_the_tally_tells_kills_inside_from_the_others():
    tally = FaultTally(kills={"random": 3, "fuse": 4}, inside={"random": 1, "fuse": 4})
    (line, *_) = tally.lines((Kill(),))
    assert line.startswith("kills: 7, 5 inside a lock or a two-step update")
