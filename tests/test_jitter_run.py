"""``--jitter`` and ``--flight``: what they read, what a worker gets, what a report says."""

from __future__ import annotations

import json

import pytest

from shmalloc import constants as c
from shmalloc.engine import get_engine, ops
from shmalloc.errors import MisuseError
from shmalloc.kernels.reporting import report
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.word_names import WordNames
from stress.jitter.delays import KINDS
from stress.jitter.ram import JitterRam
from stress.jitter.spec import Jitter, Stutter, parse_jitter
from stress.quantities import parse_entries
from stress.run.flight import FlightLog
from stress.run.noise import left_of_pause
from support.runs import shmstress

GEOMETRY = Geometry(
    zones=(ZoneSpec(16), ZoneSpec(16)),
    page_bytes=64,
    cpus=2,
    max_order=3,
    pageblock_order=2,
    owner_map=True,
    history=8,
    caches=2,
    work_words=16,
    flight=64,
)
LAYOUT = Layout.of(GEOMETRY)


# --- the text of --jitter ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "on",
        "seed=0x7",
        "sites=20%",
        "short=1/9,sleep=off",
        "shuffle=off",
        "stutter=0.5s/5s",
        "seed=0x1,sites=0%,short=off,long=off,yield=1/3,sleep=off,shuffle=off,stutter=1s/2s",
    ],
)
def test_the_text_of_a_jitter_parses_to_it_again(text: str):
    assert str(parse_jitter(text)) == text
    assert parse_jitter(str(parse_jitter(text))) == parse_jitter(text)


def test_a_setting_at_its_default_is_not_told():
    defaults = "sites=50%,short=1/256,long=1/4096,yield=1/1024,sleep=1/32768,shuffle=on,stutter=off"
    assert parse_jitter(defaults) == Jitter() and str(Jitter()) == "on"


def test_a_kind_that_is_off_is_not_drawn():
    delays = parse_jitter("sites=100%,short=off,long=off,yield=off").delays
    habits = {word & 0xFF for word in delays.plans(1, 1)[1::2]}
    assert habits == {KINDS.index("sleep")}


@pytest.mark.parametrize(
    "text, hint",
    [("shrt=1/4", "did you mean 'short'"), ("of", "did you mean 'on'"), ("short=4", "1/N"),
     ("short=1/0", "1/N"), ("sites=half", "0% to 100%"), ("sites=101%", "0% to 100%"),
     ("shuffle=yes", "use on or off"), ("stutter=5s", "PAUSE/WORK"), ("seed=x", "seed"),
     ("short", "has no value"), ("short=1/4,short=1/5", "given twice"), ("", "known are")],
)  # fmt: skip
def test_a_text_that_means_nothing_is_refused_with_a_hint(text: str, hint: str):
    with pytest.raises(MisuseError, match=hint):
        parse_jitter(text)


@pytest.mark.parametrize("text", ["63", "32", "100", "-64", "many", str(1 << 21)])
def test_a_ring_has_a_power_of_two_of_entries(text: str):
    with pytest.raises(MisuseError, match="power of two"):
        parse_entries(text, "flight")


def test_an_unknown_setting_is_a_usage_error_with_exit_code_4():
    run = shmstress("run", "--jitter", "yeild=1/4")
    assert run.returncode == 4 and "did you mean 'yield'" in run.stderr


# --- stutter -------------------------------------------------------------------------------------
def test_a_stutter_pauses_after_its_work_and_until_its_end():
    stutter = Stutter(pause_s=0.5, work_s=2.0)
    moments = (0.0, 1.99, 2.0, 2.25, 2.49, 2.5, 4.75)
    left = [left_of_pause(stutter, moment) for moment in moments]
    assert left == pytest.approx([0, 0, 0.5, 0.25, 0.01, 0, 0.25])


# --- names of words ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "word, name",
    [
        (c.H_STOP, "header stop"),
        (LAYOUT.cpu(1) + c.C_BEAT, "claim 1 beat"),
        (LAYOUT.zone(1) + c.Z_LOCK, "zone 1 lock"),
        (LAYOUT.zone(0) + c.Z_LISTS + 3, "zone 0 list order 0 MOVABLE prev"),
        (LAYOUT.pcp(1, 1) + c.P_COUNT, "page lists of cpu 1 zone 1 count"),
        (LAYOUT.pcp(0, 1) + c.P_ARRAYS + 9, "page lists of cpu 0 zone 1 arrays+9"),
        (LAYOUT.at["blocks"] + 2, "pageblock 2"),
        (LAYOUT.descriptor(17), "descriptor of pfn 17"),
        (LAYOUT.descriptor(17) + 1, "descriptor of pfn 17 word 1"),
        (LAYOUT.at["owners"] + 5, "owner map of pfn 5"),
        (LAYOUT.frame(3) + 1, "pfn 3 +1"),
        (LAYOUT.work(1) + 4, "work of claim 1 +4"),
        (LAYOUT.flight(1), "flight of claim 1 +0"),
        (LAYOUT.at["caches"], "cache 0 state"),
        (LAYOUT.words, f"word {LAYOUT.words:#x}, outside"),
    ],
)
def test_a_word_is_called_by_its_region_and_field(word: int, name: str):
    assert WordNames(LAYOUT).name(word) == name


# --- what a report shows -------------------------------------------------------------------------
def world() -> tuple[Ram, list[JitterRam]]:
    """Words of the layout and what two CPUs, each with its ring, see of them."""
    ram = Ram.of_words(LAYOUT.words)
    for word, value in LAYOUT.header(digest=1).items():
        ram[word] = value
    rams = [JitterRam.over(ram) for _ in range(GEOMETRY.cpus)]
    for cpu, face in enumerate(rams):
        face.record_into(LAYOUT.flight(cpu), GEOMETRY.flight, c.H_REPORT_COUNT)
    return ram, rams


def test_accesses_are_told_with_names_and_values():
    ram, (first, second) = world()
    descriptor = LAYOUT.descriptor(4)
    first.cas(descriptor, 0, c.T_FREE | 2 << c.ORDER_SHIFT)
    second.cas2(descriptor, 0, 0, 1, 1)
    first.fetch_add(c.H_SEQUENCE, 3)
    first[c.H_STOP] = 5
    lines = [" ".join(line.split()[1:]) for line in FlightLog(ram, LAYOUT).lines()]
    assert "cpu 0 fetch_add header sequence found 0, operand 3" in lines
    assert "cpu 0 write header stop := 5" in lines
    won, lost = (line for line in lines if "descriptor of pfn 4" in line)
    assert "cas" in won and "[free, order 2] won" in won
    assert "cas2" in lost and lost.endswith("lost")


def test_the_write_that_killed_is_marked():
    ram, (first, _) = world()
    first.fetch_add(c.H_SEQUENCE, 1)
    first.state.die = lambda: None  # type: ignore[method-assign]
    first.light_fuse(1)
    first[c.H_STOP] = 5
    marked = [line for line in FlightLog(ram, LAYOUT).lines() if "killed before this" in line]
    assert len(marked) == 1 and "header stop" in marked[0]


def test_what_came_after_a_violation_is_not_recorded():
    ram, (first, second) = world()
    for face in (first, second):
        face.fetch_add(c.H_SEQUENCE, 1)
    get_engine("interpreted").call(report, first, 0, c.I_TAIL, 4, 1, 2, 0)
    for _ in range(100):
        second.fetch_add(c.H_SEQUENCE, 1)
    told = [access for access in FlightLog(ram, LAYOUT).all() if access.cpu == 1]
    assert [(access.op, access.value) for access in told] == [(ops.OP_FETCH_ADD, 1)]


def test_kernels_notes_about_themselves_are_left_out():
    ram, (first, _) = world()
    first.fetch_add(c.H_SEQUENCE, 1)  # starts the clock: what was recorded before it is not told
    get_engine("interpreted").call(report, first, 0, c.I_TAIL, 4, 1, 2, 0)
    lines = FlightLog(ram, LAYOUT).lines()
    assert lines and not any("history" in line for line in lines)


# --- a run ---------------------------------------------------------------------------------------
def test_a_run_with_everything_on_passes_and_repeats_itself_in_its_spec():
    jitter = "seed=0x7,stutter=0.1s/0.5s"
    run = shmstress(
        "run", "--workload", "churn", "--engine", "interpreted", "--ram", "32MiB", "--zones", "1",
        "--duration", "2s", "--jitter", jitter, "--flight", "256", "--json", "-",
    )  # fmt: skip
    document = json.loads(run.stdout)
    assert document["verdict"] in ("PASSED", "VACUOUS"), run.stderr  # it is slow: no wave may end
    assert document["results"][0]["flight"] == []
    assert f"--jitter {jitter} --flight 256" in run.stderr
