"""The table of invariants: it is complete, what it names exists, and the documents repeat it."""

from pathlib import Path

import pytest

from shmalloc import constants as c
from shmalloc import invariants
from stress import cli
from stress.mutants import MUTANTS
from stress.report import invariant_table

ROOT = Path(__file__).resolve().parent.parent

CODES = {name: value for name, value in vars(c).items() if name.startswith(("I_", "M_", "X_"))}
NAMED = [(row.name, mutant) for row in invariants.TABLE.values() for mutant in row.mutants]


def test_every_constant_has_a_row_and_every_row_a_constant():
    assert {row.name: row.number for row in invariants.TABLE.values()} == CODES


def test_no_number_is_used_twice():
    assert len(set(CODES.values())) == len(CODES)


@pytest.mark.parametrize(("name", "mutant"), NAMED)
def test_a_mutant_of_the_table_breaks_that_row_first_and_must_be_found(name, mutant):
    assert MUTANTS[mutant].invariant == name and not MUTANTS[mutant].equivalent


def test_a_row_without_a_mutant_says_what_breaks_it():
    broken = {mutant.invariant for mutant in MUTANTS.values() if not mutant.equivalent}
    for row in invariants.TABLE.values():
        assert bool(row.mutants) == (row.name in broken)
        assert row.mutants or row.example


def test_a_row_says_what_checks_it_in_a_sentence_that_can_follow_a_colon():
    for row in invariants.TABLE.values():
        assert row.checkers and row.sentence[0].islower() and not row.sentence.endswith(".")


def test_a_number_without_a_row_is_shown_as_it_is():
    assert (invariants.name_of(7777), invariants.phrase_of(7777)) == ("code 7777", "code 7777")


def test_the_page_repeats_the_table():
    page = (ROOT / "docs/invariants.md").read_text()
    assert invariant_table.refreshed(page) == page


def test_a_page_without_a_generated_part_is_refused():
    with pytest.raises(ValueError, match="no generated part"):
        invariant_table.refreshed("# Invariants")


def test_list_prints_the_part_of_the_page(capsys):
    assert cli.run(["list", "--invariants", "--markdown"]) == 0
    assert capsys.readouterr().out == invariant_table.markdown()
