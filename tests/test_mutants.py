"""Mutants: patches that fit, a table that tells the truth, and a canary that must be found."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import io
import json
import re
import symtable
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from shmalloc import dialect
from shmalloc.compiler.digest import key_of
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.words import RAM
from shmalloc.invariants import BY_NAME
from stress.mutants import CANARY, MUTANTS, PARTS, Mutant, MutantError, runner, tree
from stress.mutants.mutant import programs_of
from stress.mutants.report import document, last_lines, print_tables
from stress.mutants.runner import (
    EXPECTED,
    EXPLORER,
    FOUND,
    NATIVE,
    ORIGINAL,
    SURVIVED,
    TROUBLE,
    Following,
    Hunted,
    code_name,
    hunt_all,
    known_programs,
)
from stress.mutants.suite import suite_of
from stress.report.markdown import markdown
from stress.report.suite import Start
from stress.verdict import Verdict
from stress.workloads import WORKLOADS
from support.runs import ROOT, shmstress

ALL = list(MUTANTS.values())
by_name = pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)


# --- the catalogue -------------------------------------------------------------------------------
def test_names_are_unique():
    assert sum(len(part) for part in PARTS.values()) == len(MUTANTS) >= 40


@by_name
def test_a_patch_fits_exactly_once(mutant):
    source = (ROOT / mutant.file).read_text()
    assert mutant.patched(source) != source


def unknown_names(text: str) -> set[str]:
    """Names that functions of a module read, and that neither they nor the module bind."""
    module = symtable.symtable(text, "mutant", "exec")
    known = set(module.get_identifiers()) | set(dir(builtins))
    todo, unknown = list(module.get_children()), set()
    while todo:
        table = todo.pop()
        todo += table.get_children()
        unknown |= {s.get_name() for s in table.get_symbols() if s.is_global()} - known
    return unknown


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_names_nothing_that_is_not_there(mutant):
    source = (ROOT / mutant.file).read_text()
    assert unknown_names(mutant.patched(source)) == set()


@by_name
def test_a_mutant_changes_the_digest_of_a_kernel(mutant, monkeypatch):
    monkeypatch.setattr(dialect, "KERNELS", dict(dialect.KERNELS))
    source = (ROOT / mutant.file).read_text()
    before, after = (digests(mutant, text) for text in (source, mutant.patched(source)))
    assert before.keys() == after.keys() and before != after


def digests(mutant: Mutant, source: str) -> dict[str, str]:
    """The key of an image of every kernel of the file, with its call graph."""
    module = ModuleType(mutant.file.removesuffix(".py").replace("/", "."))
    exec(compile(source, mutant.file, "exec"), vars(module))
    kernels = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__
    }
    for kernel in kernels.values():  # a line that moved shall not count
        kernel.__code__ = kernel.__code__.replace(co_firstlineno=1, co_linetable=b"")
    return {name: key_of([Instance(kernel, RAM, True)]) for name, kernel in kernels.items()}


@by_name
def test_a_mutant_says_what_goes_wrong(mutant):
    assert len(mutant.story) > 20


@by_name
def test_the_broken_invariant_is_in_the_list(mutant):
    assert f"`{mutant.invariant}`" in (ROOT / "docs/invariants.md").read_text()


@by_name
def test_a_checker_should_find_it_or_the_reason_is_given(mutant):
    assert programs_of(mutant.programs, known_programs())
    assert set(mutant.workloads) <= set(WORKLOADS)
    assert bool(mutant.workloads) != bool(mutant.unseen)


@by_name
def test_a_commit_stands_beside_the_bug_that_it_fixed(mutant):
    assert not mutant.commit or mutant.precedent
    assert re.fullmatch("([0-9a-f]{8,12})?", mutant.commit)


@by_name
def test_equivalence_is_argued(mutant):
    assert not mutant.equivalent or len(mutant.equivalent) > 200


def test_a_part_means_all_of_its_programs():
    known = ("buddy-a", "lock-b", "buddy-c")
    assert programs_of(("buddy-c", "buddy"), known) == ["buddy-c", "buddy-a"]


@pytest.mark.parametrize("times", [0, 2])
def test_a_patch_that_does_not_fit_names_the_mutant(times):
    mutant = dataclasses.replace(MUTANTS[CANARY], edits=(("old\n", "new\n"),))
    with pytest.raises(MutantError, match=f"mutant {CANARY}: .* has {times} times"):
        mutant.patched("old\n" * times)


# --- the hunt ------------------------------------------------------------------------------------
def hunt(mutants, root, **how):
    how = {"engines": (EXPLORER,), "seconds": 30.0, "original": False, **how}
    return list(hunt_all(mutants, root, **how))


def test_the_canary_is_found_by_the_interpreted_explorer(tmp_path):
    """CI fails here if the hunter finds nothing any more."""
    (hunted,) = hunt([MUTANTS[CANARY]], tmp_path)
    assert (hunted.outcome, hunted.note) == (FOUND, "interpreted")
    assert hunted.token.startswith("shm1/slab-") and hunted.preemptions is not None


def test_the_original_passes_the_hunt_of_the_canary(tmp_path):
    short = dataclasses.replace(MUTANTS[CANARY], programs=("slab-full-partial",))
    (hunted,) = hunt([short], tmp_path, original=True)
    assert (hunted.mutant, hunted.outcome, hunted.verdict) == (ORIGINAL, EXPECTED, Verdict.PASSED)
    assert hunted.note == "every class of slab-full-partial was run"


def test_a_set_of_programs_is_hunted_once_in_the_original(tmp_path, monkeypatch):
    monkeypatch.setattr(
        runner,
        "_explored",
        lambda name, root, programs, budget, missed: Hunted(name, EXPLORER, missed, seconds=budget),
    )
    one = MUTANTS[CANARY]
    other = dataclasses.replace(one, name="other", budget_s=90.0)
    results = hunt([one, other], tmp_path, original=True, seconds=None)
    assert [result.seconds for result in results] == [90.0]


def test_a_mutant_that_does_not_run_is_trouble_and_no_kill(tmp_path):
    mutant = dataclasses.replace(
        MUTANTS[CANARY], edits=(("from shmalloc.dialect import kernel, unit\n", "broken\n"),)
    )
    (hunted,) = hunt([mutant], tmp_path)
    assert (hunted.outcome, hunted.verdict) == (TROUBLE, Verdict.ERROR)
    assert "exit code 1: NameError" in hunted.note


def test_the_packages_of_the_copy_are_those_that_run(tmp_path):
    tree.build(tmp_path, None)
    with pytest.raises(SystemExit, match="are not those that were imported"):
        from stress.mutants.hunt import main

        main(str(tmp_path), "1")


def test_a_child_that_does_not_end_is_ended(tmp_path):
    with pytest.raises(tree.ChildError, match=r"no end after 0\.5 s"):
        tree.run_python(tmp_path, ["-c", "import time; time.sleep(600)"], 0.5)


def test_the_place_of_copies_is_empty_afterwards(monkeypatch, tmp_path):
    monkeypatch.setattr(tree, "cache_root", lambda: tmp_path)
    with tree.place() as root:
        tree.build(root, MUTANTS[CANARY])
        assert (root / MUTANTS[CANARY].file).is_file()
    assert not root.exists()


def test_two_at_once_have_a_place_each(monkeypatch, tmp_path):
    monkeypatch.setattr(tree, "cache_root", lambda: tmp_path)
    with tree.place() as one, tree.place() as other:
        assert one != other


# --- the table -----------------------------------------------------------------------------------
KILLED = Hunted(
    "put-to-a-full-slab",
    EXPLORER,
    FOUND,
    "slab-full-partial (sc)",
    "check I_SLAB",
    4711,
    0.3,
    1,
    "shm1/slab-full-partial/sc/p1/5000/check/7/0123456789ab/0.5-1",
)
ALIVE = Hunted("merge-once", EXPLORER, SURVIVED, schedules=12, seconds=60.0, note="not to the end")
SAME = Hunted("bring-back-blind", EXPLORER, EXPECTED, note="every class was run")
UNSEEN = Hunted("unspin-relaxed", NATIVE, EXPECTED, note="x86 keeps stores in order")


def printed(*results):
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        print_tables(results)
    return stream.getvalue()


def page_of(*results):
    """What ``--markdown`` writes."""
    return markdown(suite_of(results, Start.now(), "shmstress mutants", interrupted=False))


def test_a_row_has_all_that_is_known_of_a_kill():
    lines = printed(KILLED).splitlines()
    line = next(line for line in lines if line.startswith("put-to-a-full"))
    assert re.split(r"  +", line) == [
        KILLED.mutant,
        KILLED.by,
        KILLED.kind,
        "4,711",
        "0.3",
        "1",
        KILLED.token,
    ]


def test_the_page_has_a_row_with_all_but_the_token():
    page = page_of(KILLED)
    row = "| put-to-a-full-slab | slab-full-partial (sc) | check I_SLAB | 4,711 | 0.3 | 1 |"
    assert row in page.splitlines() and KILLED.token not in page
    assert "PASSED explorer: 1 of 1 found" in page


def test_what_follows_a_find_is_one_more_column_and_a_sum():
    real = dataclasses.replace(KILLED, after="yes, 0.09 s, 2 gates")
    other = dataclasses.replace(KILLED, mutant="merge-once", after="no: it did not happen")
    page = page_of(real, other)
    assert "| 1 | yes, 0.09 s, 2 gates |" in page and "in real processes: 1 of 2" in page
    run = Hunted("merge-once", NATIVE, FOUND, "churn", "I_TAIL", seconds=1.0, after="yes, 8 s")
    assert "| churn | I_TAIL | 1.0 | yes, 8 s |" in page_of(run)


def test_a_token_of_a_mutant_happens_in_real_processes_of_the_copy(tmp_path):
    (found,) = hunt([MUTANTS["merge-once"]], tmp_path, following=Following(real=True))
    assert re.fullmatch(r"yes, [0-9.]+ s, 1 gate", found.after), found.after


def test_the_page_says_why_something_was_not_found():
    row = "| unspin-relaxed | not expected: x86 keeps stores in order |  |  |"
    assert row in page_of(UNSEEN).splitlines()


def test_a_few_kills_are_told_in_words():
    cause = "The check found when all CPUs were done:\n  I_SLAB: at pfn 2"
    lines = printed(dataclasses.replace(KILLED, cause=cause)).splitlines()
    at = lines.index(f"{KILLED.mutant}: {MUTANTS[KILLED.mutant].story}")
    assert lines[at + 1 : at + 5] == [
        f"  it violates I_SLAB: {BY_NAME['I_SLAB'].sentence}",
        "  found by slab-full-partial (sc) in 0.3 s: check I_SLAB",
        "    The check found when all CPUs were done:",
        "      I_SLAB: at pfn 2",
    ]


def test_many_kills_are_not_told_in_words():
    assert "it violates" not in printed(*[KILLED] * 9)


def test_survivors_are_named_at_the_end():
    *_, sums, verdict = last_lines([KILLED, ALIVE, SAME])
    assert sums == "explorer: 1 of 2 found; 1 more are equivalent; survivors: merge-once"
    assert verdict == "FAILED"


def test_a_survivor_is_told_with_its_story():
    assert f"!!! {ALIVE}: {MUTANTS['merge-once'].story}" in printed(KILLED, ALIVE)


def test_an_engine_that_did_not_hunt_has_no_table():
    assert "native" not in printed(KILLED)


def test_what_cannot_be_seen_natively_is_counted_apart():
    assert last_lines([UNSEEN])[0] == "native: 0 of 1 found, 1 of them need not be"


def test_a_report_on_the_original_fails():
    blamed = dataclasses.replace(KILLED, mutant=ORIGINAL, cause="a race")
    assert blamed.verdict is Verdict.FAILED
    assert "explorer: 1 reports on the original kernels in 1 hunts, 0 s" in printed(blamed)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (FOUND, Verdict.PASSED),
        (EXPECTED, Verdict.PASSED),
        (SURVIVED, Verdict.FAILED),
        (TROUBLE, Verdict.ERROR),
    ],
)
def test_the_verdict_follows_the_outcome(outcome, verdict):
    assert dataclasses.replace(KILLED, outcome=outcome).verdict is verdict


def test_a_kind_is_told_with_the_name_of_its_code():
    assert (code_name("check", 6), code_name("race", 0)) == ("check I_TAIL", "race")


def test_the_document_has_the_mutants_with_their_stories():
    made = json.loads(document([KILLED, ALIVE], ["put-to-a-full-slab", "merge-once"], None))
    assert (made["verdict"], made["exit_code"]) == ("FAILED", 1)
    assert [result["story"] for result in made["results"]] == [
        MUTANTS[name].story for name in made["spec"]["mutants"]
    ]
    assert {result["sentence"] for result in made["results"]} == {
        BY_NAME[name].sentence for name in ("I_SLAB", "I_UNMERGED")
    }


# --- the command ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def merge_once(tmp_path_factory):
    """The command that hunted one mutant, and what its document says about it."""
    file = tmp_path_factory.mktemp("mutants") / "mutants.json"
    run = shmstress("mutants", "merge-once", "--seconds", "30", "--json", str(file))
    assert run.returncode == 0, run.stdout + run.stderr
    (result,) = json.loads(file.read_text())["results"]
    return run, result


def test_one_mutant_from_end_to_end(merge_once):
    run, result = merge_once
    assert (result["outcome"], result["kind"]) == (FOUND, "check I_UNMERGED")
    assert "explorer: 1 of 1 found\nPASSED\n" in run.stdout


def test_the_document_alone_goes_to_standard_output():
    run = shmstress("mutants", "merge-once", "--seconds", "30", "--json", "-")
    assert json.loads(run.stdout)["spec"]["mutants"] == ["merge-once"]
    assert "1 of 1 found" in run.stderr


def test_a_planted_mutant_replays_its_token(tmp_path, merge_once):
    shmstress("mutants", "merge-once", "--plant", str(tmp_path / "tree"))
    code, output, errors = tree.run_python(
        tmp_path / "tree", ["-m", "stress", "replay", merge_once[1]["token"]], timeout_s=60.0
    )
    assert code == 1 and "reproduced: check 4" in output, output + errors


def test_the_list_tells_every_story():
    run = shmstress("mutants", "--list")
    assert all(mutant.story in run.stdout for mutant in ALL)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("merge-onec",), "mutant: 'merge-onec' is unknown; did you mean 'merge-once'?"),
        (("--engine", "natvie"), "engine: 'natvie' is unknown; did you mean 'native'?"),
        (("--seconds", "0"), "duration: '0'; use a time of more than 0 that ends"),
        (("--seconds", "soon"), "duration: 'soon'; use a form like"),
        (("--json", "missing/x.json"), "json: missing/x.json cannot be written"),
        (("--plant", "tree"), f"plant: {len(ALL)} mutants; name one"),
    ],
)
def test_a_usage_error_exits_4_and_names_the_cure(arguments, told):
    run = shmstress("mutants", *arguments)
    assert run.returncode == 4 and told in run.stderr


def test_tests_import_this_tree():
    """Otherwise the patches above were checked against another source."""
    assert Path(sys.modules["stress"].__file__ or "").is_relative_to(ROOT)
