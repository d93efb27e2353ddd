"""``--geometry`` and ``--zones``: every setting of a segment, as text, as a table, and in a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from shmalloc.layout import Geometry, Layout, ZoneSpec
from stress import cli
from stress.geometry import MOST_LISTED, PAGE_BYTES, GeometrySpec, parse_geometry
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.memory import RunMemory, geometry_of
from stress.run.progress import Progress
from stress.spec import RawSpec, option_text, resolve
from stress.workloads import WORKLOADS
from stress.zones import Hole, Zone, parse_zones
from support.runs import RunningRun, compile_once, shmstress

PAGES = st.integers(1, 1 << 20)


@st.composite
def geometries(draw):
    """Settings of which no two exclude each other, with --link-store descriptor."""
    fill = draw(st.sampled_from(["none", "poison", "zero"]))
    batch = draw(st.integers(1, MOST_LISTED))
    most = draw(st.integers(0, 11))
    unmapped = draw(st.booleans()) and fill == "none"
    return GeometrySpec(
        fill=fill,
        init_on_alloc=draw(st.booleans()) and fill != "poison" and not unmapped,
        init_on_free=draw(st.booleans()) and fill != "poison" and not unmapped,
        debug_pagealloc=unmapped,
        unaccepted=unmapped and draw(st.booleans()),
        harden=draw(st.booleans()),
        min_free_bytes=draw(st.none() | st.integers(1, 1 << 20)),
        pcp=draw(st.sampled_from(["array", "list"])),
        pcp_batch=batch,
        pcp_high=draw(st.integers(batch, MOST_LISTED)),
        max_order=most,
        pageblock_order=draw(st.none() | st.integers(0, most)),
        reporting=draw(st.booleans()) and fill != "poison",
        spins=draw(st.integers(0, 1 << 20)),
        history=draw(st.sampled_from([0, 64, 256, 4096])),
        start_pfn=draw(st.integers(0, 1 << 20)),
        page_owner=draw(st.sampled_from([0, 1, 64])),
        cpus=draw(st.none() | st.integers(1, c.MAX_CPUS)),
    )


@st.composite
def zones(draw):
    """A zone with up to three holes, which do not touch all of it."""
    borders = sorted(draw(st.lists(PAGES, min_size=2, max_size=6, unique=True)))
    holes = [
        Hole(at * PAGE_BYTES, (end - at) * PAGE_BYTES)
        for at, end in zip(borders[::2], borders[1::2], strict=False)
    ]
    return Zone((borders[-1] + 1) * PAGE_BYTES, draw(st.integers(0, 3)), tuple(holes))


def spec_of(**texts):
    return resolve(RawSpec("churn", **texts), WORKLOADS, 2)


@given(geometries())
def test_a_geometry_prints_as_text_that_parses_to_it_again(geometry):
    assert parse_geometry(str(geometry)) == geometry


@given(geometries())
def test_a_run_with_a_geometry_prints_as_options_that_resolve_to_it_again(geometry):
    spec = spec_of(geometry=str(geometry), link_store="descriptor", ram="4GiB")
    texts = {name.replace("-", "_"): text for name, text in spec.options().items()}
    assert resolve(RawSpec(**texts), WORKLOADS, 2) == spec and spec.geometry == geometry


@given(zones())
def test_a_zone_with_holes_prints_as_text_that_parses_to_it_again(zone):
    assert parse_zones(str(zone), None, 0) == (zone,)


def test_every_setting_reaches_the_segment():
    spec = spec_of(
        geometry="fill=poison,harden=on,min-free=1MiB,pcp=list,pcp-batch=7,pcp-high=21,max-order=6,"
        "pageblock-order=4,spins=3,history=64,start-pfn=77,page-owner=1/64",
        zones="8MiB:1MiB+64KiB,4MiB@1",
        link_store="table",
    )
    made = geometry_of(spec)
    assert made.zones == (ZoneSpec(2048, 0, ((256, 16),)), ZoneSpec(1024, 1))
    assert (made.poison, made.zero, made.link_store) == (True, False, "table")
    assert (made.pcp_form, made.pcp_batch, made.pcp_high) == ("list", 7, 21)
    assert (made.max_order, made.pageblock_order, made.min_free_pages) == (6, 4, 256)
    assert (made.spins, made.history, made.start_pfn) == (3, 64, 77)
    assert made.page_owner == 64
    assert made.harden != 0


def test_a_run_can_set_every_field_of_a_geometry_that_is_no_size_of_a_region():
    """A new field of ``Geometry`` is a setting, or follows from other settings of a run."""
    follows = {
        "page_bytes", "cpus", "claims", "caches", "scratch_words", "work_words", "owner_map",
        "flight", "latency_words", "structures", "page_owner_entries", "stack_words",
    }  # fmt: skip
    settings = {*GeometrySpec().fields(1), "zones", "link_store"}
    assert settings | follows == set(Geometry.__dataclass_fields__)


def test_a_claim_has_an_area_of_its_own_and_a_cpu_that_others_may_use():
    geometry = geometry_of(spec_of(workers="70", geometry="cpus=3", flight="64"))
    layout = Layout.of(geometry)
    areas = {"work": layout.work, "flight": layout.flight, "latency": layout.latency}
    for name, first in areas.items():
        following = min(at for at in layout.at.values() if at > layout.at[name])
        assert first(69) + (first(1) - first(0)) <= following
    assert (geometry.claims, geometry.cpus) == (70, 3)


def test_a_run_has_a_cpu_for_each_worker_as_far_as_there_are_cpus():
    found = [geometry_of(spec_of(workers=workers)) for workers in ("70", "1500")]
    assert [(one.claims, one.cpus) for one in found] == [(70, 70), (1500, c.MAX_CPUS)]


def test_the_limit_of_workers_is_that_of_claims():
    reason = f"1 to {c.MAX_CLAIMS - 1}: a segment has {c.MAX_CLAIMS} claims"
    with pytest.raises(MisuseError, match=reason):
        spec_of(workers=str(c.MAX_CLAIMS))


def test_the_secret_of_free_pointers_follows_from_the_seed():
    secrets = [geometry_of(spec_of(geometry="harden=on", seed=seed)).harden for seed in "112"]
    assert secrets[0] == secrets[1] != secrets[2]


def test_pageblocks_are_never_larger_than_the_largest_block():
    assert geometry_of(spec_of(geometry="max-order=3")).pageblock_order == 3


def test_off_and_on_are_the_default():
    assert parse_geometry("off") == parse_geometry("on") == GeometrySpec()
    assert "--geometry off" in spec_of().command_line()


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("geometry", {"fill": "zero", "min-free": 4096, "harden": True},
         "fill=zero,harden=on,min-free=4KiB"),
        ("geometry", {}, "off"),
        ("zones", [{"size": "8MiB", "node": 1, "holes": ["1MiB+4KiB"]}, "4MiB"],
         "8MiB@1:1MiB+4KiB,4MiB"),
    ],
)  # fmt: skip
def test_a_table_of_a_file_is_the_text_of_the_option(name, value, text):
    assert option_text(name, value) == text


@pytest.mark.parametrize(
    "option, text, told",
    [
        ("geometry", "fill=red", "geometry.fill: 'red' is unknown; known are none, poison, zero"),
        ("geometry", "poison", "geometry: 'poison' is unknown"),
        ("geometry", "max-order=12", "geometry.max-order: '12'; use a whole number from 0 to 11"),
        ("geometry", "max-order=1.5", "geometry.max-order: '1.5'; use a whole number"),
        ("geometry", "pcp-high=3", "geometry: pcp-high: 3; use at least pcp-batch (63)"),
        ("geometry", "max-order=4,pageblock-order=6", "pageblock-order: 6; use 0 to max-order (4)"),
        ("geometry", "min-free=1GiB", "geometry: min-free=1GiB with a zone of"),
        ("geometry", "min-free=no", "geometry.min-free: 'no'; use a size such as 1MiB, or off"),
        ("geometry", "reporting=on", "geometry: reporting with link-store='page'"),
        ("geometry", "debug-pagealloc=on", "geometry: debug-pagealloc with link-store='page'"),
        ("geometry", "history=3", "geometry.history: '3'; use a power of two from 64"),
        ("geometry", "spins=-1", "geometry.spins: '-1'; use a whole number from 0"),
        ("geometry", "fill=zero,fill=none", "geometry.fill is given twice"),
        ("zones", "8MiB:4MiB", "zones: hole '4MiB'; use OFFSET+SIZE such as 4MiB+64KiB"),
        ("zones", "8MiB:0+8MiB", "zones: '8MiB:0+8MiB' is nothing but holes; leave a page"),
        ("zones", "8MiB:7MiB+2MiB", "zones: hole 7MiB+2MiB of '8MiB:7MiB+2MiB' ends behind"),
        ("zones", "8MiB:0+1MiB:4KiB+4KiB", "overlaps another; keep them apart"),
        ("zones", "8MiB:5+4096", "zones: '5'; use whole pages of 4096 bytes"),
        ("faults", "report", "faults: report:every=0.05s without reporting; use --geometry"),
    ],
)
def test_a_wrong_setting_is_one_line_with_place_and_cure(capsys, option, text, told):
    code = cli.run(["run", "--dry-run", f"--{option}", text])
    out, err = capsys.readouterr()
    assert code == 4 and told in err and err.count("\n") == 1 and out == ""


def test_a_setting_of_the_environment_is_named_as_such(monkeypatch, capsys):
    monkeypatch.setenv("SHMSTRESS_RUN_GEOMETRY", "fill=red")
    assert cli.run(["run", "--dry-run"]) == 4
    assert "(set by SHMSTRESS_RUN_GEOMETRY)" in capsys.readouterr().err


def test_zones_that_are_not_the_memory_that_was_asked_for_are_refused():
    with pytest.raises(MisuseError, match="zones: '1MiB,2MiB' are 3MiB, but ram is 4MiB"):
        parse_zones("1MiB,2MiB", 4 << 20, 0)


def run_of(**texts):
    """A short run in this process: its result."""
    compile_once()
    spec = resolve(RawSpec(workers="2", duration="1s", **texts), WORKLOADS, 2)
    with Interrupts() as interrupts:
        return Controller(spec, Progress(), interrupts, None, pytest.fail).run()


def test_blocks_of_one_page_need_no_splits_to_pass():
    result = run_of(workload="churn,pfn-walker", ram="16MiB", geometry="max-order=0")
    assert result.passed and "split" not in result.marks()


def test_memory_in_front_of_the_first_zone_is_reserved():
    result = run_of(workload="pfn-walker", zones="16MiB:4KiB+8KiB", geometry="start-pfn=777")
    assert result.passed


def test_free_memory_goes_back_to_the_system_while_workers_allocate():
    result = run_of(
        workload="churn,slabmix", ram="32MiB", link_store="descriptor", zones="1",
        geometry="reporting=on,fill=zero,pageblock-order=4", faults="report:every=1ms",
    )  # fmt: skip
    assert result.passed and result.tally.reports > 0 and result.tally.reported_bytes > 0


def test_no_kernel_of_the_workloads_touches_a_page_without_an_owner():
    result = run_of(
        workload="churn,slabmix,contig",
        ram="16MiB",
        link_store="bitmap",
        zones="1",
        geometry="debug-pagealloc=on",
    )
    assert result.passed


def test_reported_memory_is_no_longer_backed_after_a_stutter_point():
    spec = spec_of(geometry="reporting=on", ram="32MiB", zones="1", link_store="table")
    with RunMemory(spec) as memory:
        memory.segment.view(memory.layout.frame(0), 8 << 20)[:] = b"x" * (8 << 20)
        memory.report_free()
        assert not any(memory.segment.view(memory.layout.frame(0), 8 << 20))


def test_a_running_segment_has_the_geometry_of_its_command_line():
    """End to end: what was typed is what the workers work on, and the last line repeats it."""
    geometry = "fill=zero,harden=on,pcp=list,pcp-batch=8,pcp-high=64,max-order=7"
    options = ("--workload", "churn", "--workers", "2", "--zones", "16MiB:1MiB+64KiB")
    with RunningRun(*options, "--geometry", geometry, "--duration", "10m") as run:
        with run.attach() as segment:
            made = segment.geometry
        run.process.terminate()
        _, output = run.end()
    assert (made.zero, made.pcp_form, made.pcp_high, made.max_order) == (True, "list", 64, 7)
    assert made.zones[0].holes == ((256, 16),) and made.harden
    assert f"--zones 16MiB:1MiB+64KiB --link-store page --geometry {geometry}" in output


def test_a_spec_in_a_file_runs(tmp_path):
    file = tmp_path / "spec.toml"
    file.write_text(
        'workload = "orders"\nworkers = 2\nduration = "1s"\n[geometry]\nfill = "poison"\n'
        '[[zones]]\nsize = "16MiB"\nholes = ["1MiB+4KiB", "2MiB+8KiB"]\n'
    )
    run = shmstress("run", str(file))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "--zones 16MiB:1MiB+4KiB:2MiB+8KiB" in run.stdout and "fill=poison" in run.stdout


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", "3", '{"zones": 3}', '{"zones": [{}]}']
)
def test_a_text_that_is_no_geometry_is_refused_as_a_misuse(text):
    with pytest.raises(MisuseError, match="geometry: "):
        Geometry.from_json(text)
