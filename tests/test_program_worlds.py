"""Programs and crash cases in other worlds: built by name, the same threads, another segment."""

import pytest

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram
from stress.crash.allocator import allocator_case, has_case
from stress.explorer.address import address_of
from stress.explorer.targets import load_program, load_programs
from stress.geometry import DRAWN, RANDOM, drawn_geometry, parse_geometry
from stress.programs import PROGRAMS
from stress.programs.worlds import CHOSEN, UNFIT, WORLDS, worlds_for
from stress.soak.draw import Drawer
from stress.soak.spec import SoakSpec, parse_weights
from stress.spec import RawSpec, resolve
from stress.workloads import WORKLOADS

PLAIN = "pcp-overflow-refill"
HEADER = {
    "poison": (c.H_FILL, c.FILL_POISON),
    "zero": (c.H_FILL, c.FILL_ZERO),
    "linked": (c.H_PCP_FORM, c.PCP_LIST),
    "list": (c.H_LINKS, c.LINKS_DESCRIPTOR),
    "table": (c.H_LINKS, c.LINKS_TABLE),
}


def memory_of(program):
    ram = Ram.of_words(program.words)
    program.initialize(ram)
    return ram


@pytest.mark.parametrize("world", WORLDS)
def test_a_program_runs_in_every_world(world):
    program = load_program(f"{PLAIN}+{world}")
    ram = memory_of(program)
    for cpu, thread in enumerate(program.threads):
        thread(ram, cpu)
    assert program.check(ram) == 0
    assert program.threads == PROGRAMS[PLAIN]().threads and WORLDS[world].story in program.story


@pytest.mark.parametrize("world", HEADER)
def test_the_header_of_its_segment_says_so(world):
    word, value = HEADER[world]
    assert memory_of(PROGRAMS[f"{PLAIN}+{world}"]())[word] == value


def test_worlds_can_be_combined():
    ram = memory_of(load_program(f"{PLAIN}+poison+reserve+hole"))
    assert (ram[c.H_FILL], ram[c.H_PAGES]) == (c.FILL_POISON, memory_pages() + 2)
    assert ram[ram[c.H_AT_MEMMAP] + 2 * (ram[c.H_PAGES] - 1)] & c.TYPE_MASK == c.T_RESERVED


def memory_pages():
    return memory_of(PROGRAMS[PLAIN]())[c.H_PAGES]


def test_a_program_in_a_world_is_found_again_by_its_name():
    program = load_program(f"{PLAIN}+zero")
    assert program is load_program(f"{PLAIN}+zero") and program.name == f"{PLAIN}+zero"
    assert address_of(program).target == program.name


def test_a_glob_may_have_a_world_behind_it():
    found = load_programs(["pcp-unplug-*+table"])
    assert set(found) == {f"{n}+table" for n in PROGRAMS if n.startswith("pcp-unplug-")}


@pytest.mark.parametrize(
    "target, said",
    [
        (f"{PLAIN}+poisn", "unknown"),
        ("buddy-free-free-same+reserve", "relies on what world reserve changes"),
        ("lock-sleep-2+poison", "in no other world"),
        ("filled-bulk+zero", "relies on"),
    ],
)
def test_a_world_that_does_not_fit_is_refused(target, said):
    with pytest.raises(MisuseError, match=said):
        load_program(target)


def test_what_is_unfit_is_known():
    assert all(name in PROGRAMS or has_case(name) for names in UNFIT.values() for name in names)


def test_the_chosen_ones_are_among_the_programs():
    assert {name for name in PROGRAMS if "+" in name} == set(CHOSEN)


def test_a_crash_case_may_have_worlds_and_variants():
    case = allocator_case("range-contig+types+zero")
    assert memory_of(case.program)[c.H_FILL] == c.FILL_ZERO and case.name == case.program.name
    assert not has_case("range-contig+type") and has_case("pcp-linked+hole")


def test_a_variant_stays_where_the_state_has_a_cpu_more():
    case = allocator_case("reap-of-pages+fill")
    assert memory_of(case.program)[c.H_FILL] == c.FILL_POISON


def test_a_soak_draws_worlds():
    spec = SoakSpec(
        workloads=("churn",),
        programs=("pages-bulk", PLAIN),
        workers=2,
        seed=7,
        weights=parse_weights("explore=1,crash=1"),
    )
    drawn = {Drawer(spec, 2).round(number).command.split()[2] for number in range(1, 60)}
    assert {name.partition("+")[0] for name in drawn} == {"pages-bulk", PLAIN}
    assert len({name.partition("+")[2] for name in drawn}) > len(WORLDS) // 2
    assert worlds_for("lock-sleep-2") == []


def test_a_geometry_is_drawn_from_the_seed_and_written_out():
    specs = [
        resolve(RawSpec(workload="churn", geometry=RANDOM, seed=hex(seed)), WORKLOADS, 2)
        for seed in range(1, 40)
    ]
    assert specs[0].geometry == drawn_geometry(1) == parse_geometry(str(specs[0].geometry))
    for field in DRAWN:
        assert len({getattr(spec.geometry, field) for spec in specs}) > 1, field
