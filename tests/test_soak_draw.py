"""The rounds of a soak: a function of its seed, with features that come and go."""

from functools import cache
from importlib import import_module

import click
import pytest

from shmalloc.errors import MisuseError
from stress.commands.run import command as run_command
from stress.line import SWITCHES, Line
from stress.soak.draw import Drawer
from stress.soak.features import Feature, switched_on
from stress.soak.run_features import HOLES, SEVERAL_NODES
from stress.soak.run_round import spec_of
from stress.soak.spec import SoakSpec, parse_weights, require_spec, spec_from
from stress.soak.zone_draw import draw_zones
from stress.workloads import WORKLOADS
from stress.zones import parse_zones

ALL = tuple(name for name in WORKLOADS if name != "trace")
MANY = 150


def soak_spec(**settings):
    given = {"workloads": ALL, "programs": ("*",), "workers": 6, "seed": 7, **settings}
    return SoakSpec(**given)


def rounds(count=MANY, cores=2, **settings):
    drawer = Drawer(soak_spec(**settings), cores)
    return [drawer.round(number) for number in range(1, count + 1)]


@cache
def default_rounds():
    return rounds()


# --- a command line as data ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "shmstress explore buddy-merge-take --strategy pct --races",
        "shmstress crash 'a b.py:case' --depth 2",
        "shmstress run --workload churn,frag --no-prealloc --faults off",
    ],
)
def test_a_line_is_read_as_it_is_printed(text):
    assert str(Line.parse(text)) == text


def test_a_switch_without_a_value_is_on_or_off():
    assert Line.parse("shmstress run --prealloc --no-poison --ram 4MiB").options == {
        "prealloc": True, "poison": False, "ram": "4MiB",
    }  # fmt: skip


def test_a_switch_before_a_target_has_no_value():
    line = Line.parse("shmstress explore --no-races --paths lost_update.py:program --memory tso")
    assert line.targets == ("lost_update.py:program",)
    assert line.options == {"races": False, "paths": True, "memory": "tso"}


@pytest.mark.parametrize("name", ["run", "soak", "explore", "replay", "crash", "mutants"])
def test_the_switches_of_recorded_commands_are_known(name):
    command = import_module(f"stress.commands.{name}").command
    options = [one for one in command.params if isinstance(one, click.Option)]
    on = {one.opts[0].removeprefix("--") for one in options if one.is_flag}
    with_value = {one.opts[0].removeprefix("--") for one in options if not one.is_flag}
    assert on <= SWITCHES and not with_value & SWITCHES


@pytest.mark.parametrize("text", ["", "shmstress", "make -j4", "shmstress --help", "'"])
def test_what_is_no_line_of_ours_is_refused(text):
    with pytest.raises(MisuseError, match=r"^command line: "):
        Line.parse(text)


# --- the seed decides ----------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_rounds():
    assert rounds(40) == default_rounds()[:40]


def test_another_seed_gives_other_rounds():
    commands = {one.command for one in default_rounds()[:20]}
    assert commands.isdisjoint(one.command for one in rounds(20, seed=8))


def test_a_round_does_not_depend_on_those_before_it():
    assert Drawer(soak_spec(), 2).round(33) == default_rounds()[32]


def test_a_spec_that_was_recorded_draws_the_same_rounds():
    spec = soak_spec(without=("fault:*",), ram_bytes=8 << 20)
    assert spec_from(spec.texts()) == spec


# --- swarm ---------------------------------------------------------------------------------------
def test_the_seed_of_a_round_is_the_one_that_its_line_takes():
    seeds = [Line.parse(one.command).options["seed"] for one in default_rounds()]
    assert [one.seed for one in default_rounds()] == [int(text, 0) for text in seeds]


def test_every_feature_is_on_in_some_round_and_off_in_another():
    drawn = rounds(200, weights=parse_weights("run=1"))
    on, off = ({name for one in drawn for name in getattr(one, part)} for part in ("on", "off"))
    assert on == off == set(Drawer(soak_spec(), 2).features("run"))


def test_a_round_has_every_feature_either_on_or_off():
    for one in default_rounds():
        assert not set(one.on) & set(one.off), one.command


def test_a_new_feature_changes_no_other():
    features = [Feature(f"f{i}", lambda draw, spec: {}) for i in range(20)]
    new = Feature("new", lambda draw, spec: {})
    before = [f.name for f in switched_on(features, 99)]
    assert [f.name for f in switched_on([*features, new], 99) if f.name != "new"] == before


def test_features_that_exclude_each_other_are_never_on_together():
    features = [Feature("a", dict, frozenset({"b"}), chance=1.0), Feature("b", dict, chance=1.0)]
    found = {tuple(f.name for f in switched_on(features, seed)) for seed in range(1, 40)}
    assert found == {("a",), ("b",)}


def test_a_feature_that_was_left_out_is_never_on():
    assert not [n for one in rounds(without=("fault:*",)) for n in one.on if n.startswith("fault:")]


# --- what is drawn can run -----------------------------------------------------------------------
def test_every_native_round_is_a_line_that_run_takes():
    for one in default_rounds():
        if one.kind in ("run", "trace"):
            line = Line.parse(one.command)
            assert spec_of(line).command_line() == one.command
            run_command.make_context("run", one.command.split()[2:])


def test_no_round_has_a_workload_that_its_faults_exclude():
    for one in default_rounds():
        names = {name.removeprefix("workload:") for name in one.on if "workload:" in name}
        faults = {name.removeprefix("fault:").replace("fuse", "kill") for name in one.on}
        assert not [n for n in names if faults & WORKLOADS[n].unfit.keys()], one.command


def test_a_round_without_a_workload_gets_one():
    assert all(
        spec_of(Line.parse(one.command)).workloads for one in default_rounds() if one.kind == "run"
    )


def test_memory_and_workers_stay_below_their_limits():
    for one in rounds(60, workers=3, ram_bytes=16 << 20, weights=parse_weights("run=1")):
        spec = spec_of(Line.parse(one.command))
        assert spec.workers <= 3 and spec.ram_bytes <= 16 << 20


# --- kinds and pools -----------------------------------------------------------------------------
def test_kinds_are_drawn_by_weight():
    kinds = [one.kind for one in rounds(weights=parse_weights("explore=9,crash=1"))]
    assert set(kinds) == {"explore", "crash"} and kinds.count("explore") > 3 * kinds.count("crash")


def test_programs_are_drawn_from_those_that_match():
    drawn = rounds(30, programs=("buddy-*", "mine.py:prog"), weights=parse_weights("explore=1"))
    names = {one.command.split()[2] for one in drawn}
    assert "mine.py:prog" in names and all(n.startswith(("buddy-", "mine.py")) for n in names)


@pytest.mark.parametrize("name, said", [("buddy-merge-tak", "did you mean"), ("x*", "unknown")])
def test_a_program_that_is_unknown_is_refused(name, said):
    with pytest.raises(MisuseError, match=said):
        Drawer(soak_spec(programs=(name,)), 2)


@pytest.mark.parametrize(
    "text, said",
    [
        ("runs=1", "did you mean 'run'"),
        ("run", "use run=N"),
        ("run=-1", "use run=N"),
        ("run=0,crash=0", "draw nothing"),
    ],
)
def test_weights_that_mean_nothing_are_refused(text, said):
    with pytest.raises(MisuseError, match=said):
        parse_weights(text)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"workloads": ("churm",)}, "did you mean 'churn'"),
        ({"ram_bytes": 1 << 20}, "ram: 1MiB; use at least 4MiB"),
        ({"round_time_s": 60.0, "duration_s": 30.0}, "round-time: longer"),
    ],
)
def test_a_soak_that_could_not_run_is_refused(settings, said):
    with pytest.raises(MisuseError, match=said):
        require_spec(soak_spec(**settings), ALL)


# --- memory --------------------------------------------------------------------------------------
def test_a_feature_is_off_without_what_it_needs():
    needy = Feature("b", dict, needs=frozenset({"a"}), chance=1.0)
    on = [[f.name for f in switched_on([Feature("a", dict), needy], seed)] for seed in range(1, 40)]
    assert sorted({tuple(names) for names in on}) == [(), ("a", "b")]


def test_holes_lie_apart_inside_their_zone_and_leave_most_of_it():
    for seed in range(1, 200):
        for zone in draw_zones(seed, "3", 16 << 20, {HOLES}):
            assert parse_zones(str(zone), None, 0) == (zone,)  # which refuses what overlaps
            assert 1 <= len(zone.holes) <= 3 and zone.managed_bytes > zone.bytes * 7 // 8


def test_zones_are_on_one_node_unless_the_feature_is_on():
    nodes = [
        {zone.node for zone in draw_zones(7, "3", 16 << 20, on)} for on in ((), {SEVERAL_NODES})
    ]
    assert nodes == [{0}, {0, 1, 2}]
