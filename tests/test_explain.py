"""From a failure of real processes to a schedule: evidence, drawn programs, cutting down."""

from __future__ import annotations

import itertools
import json

import pytest

from shmalloc import constants as c
from shmalloc.errors import CorruptionError, MisuseError
from shmalloc.invariants import BY_NAME
from stress import explore, replay
from stress.explain import catalogue, explained, explained_steps, worlds
from stress.explain.catalogue import cases_about, programs_about
from stress.explain.draw import sketches
from stress.explain.evidence import Evidence, of_document, of_flight, of_history
from stress.explain.explanation import Explanation, explain, lines_of
from stress.explain.operations import OBJECTS, PAGES, PERFORMERS
from stress.explain.search import Effort, Explained, attempt, is_same
from stress.explain.sources import evidence_of, of_finding
from stress.explain.steps import step_sketches
from stress.explain.worlds import Sketch
from stress.explain.writing import text_of, write
from stress.mutants import MUTANTS, tree
from stress.programs import PROGRAMS
from stress.records.rows import FindingRow
from stress.workloads.registry import Workload
from support import explained_steps_kernels
from support.runs import shmstress

DOCUMENT = {
    "spec": {"workload": "churn,orders", "link-store": "table", "faults": "kill:every=1s"},
    "reproduce": {"command": "shmstress run --workload churn,orders --seed 0x1"},
    "results": [
        {
            "violations": [
                {
                    "invariant": "I_TAIL",
                    "kernel": "audit.check_head",
                    "where": "pfn 4",
                    "expected": "1",
                    "found": "2",
                    "history": ["cpu 0: freed pfn 4, order 2", "cpu 1: allocated pfn 4, order 1"],
                }
            ],
            "in_flight": {"0": ["cpu 0: drained page lists of zone 0: 4 pages"], "1": []},
            "flight": ["  -4  cpu 1  read  pageblock 3 = 1"],
            "troubles": [],
        }
    ],
}


# --- evidence ------------------------------------------------------------------------------------
def test_the_evidence_of_a_document_is_what_its_run_did():
    evidence = of_document(DOCUMENT)
    assert (evidence.invariant, evidence.kernel) == ("I_TAIL", "audit.check_head")
    assert evidence.code == BY_NAME["I_TAIL"].number
    assert evidence.orders == (2, 1)
    assert evidence.did == {"put": 1, "take": 1, "drain": 1, "isolate": 1, "restore": 1}
    assert evidence.workloads == ("churn", "orders") and evidence.kills


def test_operations_that_were_seen_come_more_often():
    weights = of_document(DOCUMENT).alphabet
    assert weights["take"] > weights["zone_take"] > 0 and weights["isolate"] == 1


def test_a_run_that_passed_is_no_evidence():
    result = {**DOCUMENT["results"][0], "violations": []}
    assert of_document({**DOCUMENT, "results": [result]}) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("cpu 0: allocated object 0x40 of cache 2", "object_take"),
        ("cpu 0: unmade the slab of pfn 4, order 0", "shrink"),
        ("cpu 0: isolated pfns 0 to 3", "isolate"),
        ("cpu 0: found no block of order 3", "take"),
    ],
)
def test_a_line_of_a_history_is_an_operation(line, name):
    did, _ = of_history([line])
    assert did == {name: 1}


def test_the_flight_recorder_tells_what_was_touched():
    assert of_flight(["cpu 0 cas cache 0 node 0 lock"]) == {"object_take": 1, "object_put": 1}


def test_a_finding_of_a_database_is_evidence():
    row = _finding("shmstress run --workload slabmix --seed 0x1 --no-prealloc")
    evidence = of_finding(row)
    assert evidence.workloads == ("slabmix",) and evidence.did == {"object_put": 1}


def test_a_finding_that_has_a_schedule_needs_no_explanation():
    with pytest.raises(MisuseError, match="it has a schedule already"):
        of_finding(_finding("shmstress explore slab-new-new"))


def _finding(command):
    report = "I_SLAB: at pfn 1\nhistory of pfn 1:\n  cpu 0: freed object 0x40 of cache 2"
    seen = {"first_seen_s": 0.0, "last_seen_s": 0.0, "count": 1, "status": "open"}
    rounds = {"first_round_id": 1, "last_round_id": 1, "repeatable": None, "token": None}
    return FindingRow(
        fingerprint="abc",
        kind="violation",
        invariant="I_SLAB",
        site="slab.x",
        sentence="",
        command=command,
        report=report,
        details={},
        **seen,
        **rounds,
    )


def test_a_source_that_is_none_is_told(tmp_path):
    with pytest.raises(MisuseError, match="is no directory of shmstress run --out"):
        evidence_of(str(tmp_path / "missing"))
    with pytest.raises(MisuseError, match=r"has no run\.json"):
        evidence_of(str(tmp_path))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(MisuseError, match="is no document of shmstress run"):
        evidence_of(str(tmp_path / "other.json"))


# --- programs ------------------------------------------------------------------------------------
EVIDENCE = Evidence("I_TAIL", workloads=("churn", "contig", "hotplug", "nowait", "slabmix"))


def drawn(count, evidence=EVIDENCE):
    return list(itertools.islice(sketches(evidence), count))


def test_what_is_drawn_is_the_same_every_time():
    assert [one.text for one in drawn(50)] == [one.text for one in drawn(50)]


def test_every_sketch_is_a_program():
    assert [one.program().name for one in drawn(25)] == ["explained"] * 25


def test_the_text_of_a_sketch_makes_it_again():
    for sketch in drawn(5):
        again = eval(sketch.text, {"explained": explained})
        assert (again.init == sketch.program().init).all()


def test_the_kernels_as_they_are_break_nothing():
    """What is drawn uses the allocator as it may be used: else it would explain anything."""
    effort = Effort()
    for sketch in drawn(12):
        assert attempt(sketch, EVIDENCE, effort) is None, sketch.text


def test_every_operation_has_a_kernel_and_a_number_of_its_own():
    for table in (PAGES, OBJECTS):
        numbers = [number for number, _ in table.values()]
        assert len(set(numbers)) == len(numbers)
    assert set(PAGES) == set().union(*(names for _, names in PERFORMERS))


@pytest.mark.parametrize(
    ("threads", "told"),
    [
        ([[("tkae", 0, 0)]], "tkae"),
        ([[("take", 0)]], "take: it takes slot, order"),
        ([[("unplug", 0), ("isolate", 0, 0)]], "no kernel has all of them"),
        ([[("drain",)] * 9], "use at most 8"),
    ],
)
def test_what_is_no_operation_is_refused(threads, told):
    with pytest.raises(MisuseError, match=told):
        explained({"pages": 2}, [[]], threads)


def test_a_world_has_what_the_run_had():
    options = {"link-store": "table", "geometry": "fill=poison"}
    evidence = Evidence("I_BYTES", workloads=("bulk",), options=options)
    worlds = [one.world for one in drawn(10, evidence)]
    assert all(world["poison"] and world["link_store"] == "table" for world in worlds)


def test_a_preparation_that_waits_for_ever_ends():
    state = worlds.state_of({"pages": 2}, 1)
    state.ram[state.layout.zone(0) + c.Z_LOCK] = 2  # held by a claim that does not run
    with pytest.raises(CorruptionError, match="waits for ever"):
        worlds.perform(state, 0, [("zone_take", 0, 0)], False)


def test_a_preparation_that_breaks_the_world_is_no_program(monkeypatch):
    monkeypatch.setattr(worlds, "pages_are_sound", lambda mem: 6)
    with pytest.raises(CorruptionError, match="breaks it: a kernel alone does this"):
        explained({"pages": 2}, [[("take", 0, 0)]], [[("put", 0)]])


def test_a_fault_of_a_preparation_is_a_world_that_a_kernel_alone_breaks(monkeypatch):
    monkeypatch.setattr(worlds, "performer", lambda *given: lambda mem, cpu: mem[1 << 40])
    with pytest.raises(CorruptionError, match="has a fault: word 1099511627776 is outside"):
        explained({"pages": 2}, [[("take", 0, 0)]], [[("put", 0)]])


def test_what_goes_past_the_lists_knows_one_zone_alone():
    with pytest.raises(MisuseError, match="know one zone alone"):
        explained({"pages": 2, "zones": 2}, [[]], [[("zone_take", 0, 0)]])
    two = [one for one in drawn(400, Evidence("", workloads=("churn",))) if "zones" in one.world]
    made = {
        operation[0] for one in two for each in (*one.before, *one.threads) for operation in each
    }
    assert two and made == {"take", "put"}


def test_a_smaller_sketch_has_one_thing_less():
    sketch = Sketch({"pages": 4, "poison": True}, ((("take", 0, 0),), ()), ((("put", 0),), ()))
    texts = [one.text for one in sketch.variants()]
    assert len(texts) == len(set(texts)) == 4 and sketch.text not in texts


def test_parts_of_the_catalogue_belong_to_workloads():
    assert "slab-alloc-free" in programs_about(Evidence("I_SLAB", workloads=("slabmix",)))
    assert "pages-order-0" in cases_about(Evidence("I_TAIL", workloads=("churn",)))


def test_a_program_of_the_catalogue_that_cannot_be_prepared_is_gone_past(monkeypatch):
    def faulty():
        raise IndexError("word -57 is outside the segment")

    known = {"slab-a": faulty, "slab-b": lambda: PROGRAMS["slab-new-new"]()}
    monkeypatch.setattr(catalogue, "PROGRAMS", known)
    effort = Effort()
    catalogue.try_programs(Evidence("I_SLAB", workloads=("slabmix",)), effort, 20.0, print)
    assert effort.programs == 1 and effort.found is None


@pytest.mark.parametrize(
    ("kind", "code", "invariant", "same"),
    [
        ("failed", BY_NAME["I_TAIL"].number, "I_TAIL", True),
        ("check", BY_NAME["I_SLAB"].number, "I_TAIL", False),
        ("deadlock", 0, "I_PROGRESS", True),
        ("livelock", 0, "", True),
        ("race", 0, "I_TAIL", False),
    ],
)
def test_when_a_schedule_breaks_the_same_invariant(kind, code, invariant, same):
    assert is_same(kind, code, Evidence(invariant)) is same


# --- a user's workload ---------------------------------------------------------------------------
TWICE = Workload("twice", explained_steps_kernels.step, explained_steps_kernels.finish)


def test_the_kernel_of_a_user_is_explored_in_small():
    made = explain(Evidence("X_PAYLOAD"), 20.0, users=[TWICE])
    assert made.found is not None and made.found.same
    assert made.found.sketch.steps == (1, 1)


def test_steps_have_the_areas_that_a_run_gives_them():
    sketch = next(step_sketches(TWICE))
    assert sketch.text.splitlines()[2] == "    steps=[1, 1],"
    program = explained_steps(f"{explained_steps_kernels.__file__}:step", [1, 1])
    names = {program.word_name(at) for at in range(program.words)}
    assert "work area of cpu 1 +16" in names


def test_a_step_that_is_not_there_is_told():
    with pytest.raises(MisuseError, match="none_such"):
        explained_steps(f"{explained_steps_kernels.__file__}:none_such", [1])


# --- the whole way -------------------------------------------------------------------------------


def test_what_was_not_explained_says_how_far_it_came():
    made = explain(Evidence("I_TAIL"), 0.1)
    assert str(made).startswith("not explained: 0 drawn worlds") and made.token == ""


def found_of_user():
    sketch = next(step_sketches(TWICE))
    failure = explore(sketch.program(), engine="interpreted", races=False, seconds=20).failure
    evidence = Evidence("X_PAYLOAD", text="seen", in_flight={0: ("cpu 0: freed pfn 1, order 0",)})
    found = Explained(sketch, sketch.program(), failure, True)
    return Explanation(evidence, Effort(2, 30), found)


def test_an_explanation_is_told_with_what_was_in_flight():
    lines = "\n".join(lines_of(found_of_user()))
    assert "  in flight on cpu 0: freed pfn 1, order 0" in lines
    assert "explained by 2 CPUs with 2 operations: a schedule breaks the same invariant" in lines


def test_the_file_of_an_explanation_is_a_test_that_fails_until_it_is_mended(tmp_path):
    made = found_of_user()
    path = write(made, tmp_path / "explained")
    assert path.name == "test_x_payload.py" and path.read_text() == text_of(made)
    names: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert replay(names["PROGRAM"], names["TOKEN"]).reproduced
    with pytest.raises(AssertionError):
        names["test_the_schedule_fails_no_more"]()


def test_a_mutant_that_a_run_found_is_explained_and_its_test_fails(tmp_path):
    """In a copy, with a document as a run of it writes one."""
    tree.build(tmp_path, MUTANTS["merge-once"])
    document = json.loads(json.dumps(DOCUMENT).replace("I_TAIL", "I_UNMERGED"))
    document["spec"] = {"workload": "churn,orders"}
    (tmp_path / "run.json").write_text(json.dumps(document))
    arguments = ["-m", "stress", "explain", "run.json", "--duration", "60s", "--json", "-"]
    code, output, errors = tree.run_python(tmp_path, arguments, timeout_s=300.0)
    assert code == 1, errors
    made = json.loads(output)
    assert made["explained"] and made["same"] and made["token"].startswith("shm1/explained/")
    test = ["-m", "pytest", "-q", "-p", "no:cacheprovider", made["file"]]
    code, output, _ = tree.run_python(tmp_path, test, timeout_s=300.0)
    assert code == 1 and "I_UNMERGED" in output


def test_the_command_says_what_it_takes():
    run = shmstress("explain", "nothing.json")
    assert run.returncode == 4 and "failure: nothing.json is no directory" in run.stderr
