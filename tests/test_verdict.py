"""Verdicts and exit codes."""

import pytest

from stress.verdict import Verdict, worst

CODES = {"PASSED": 0, "FAILED": 1, "INTERRUPTED": 2, "ERROR": 3, "VACUOUS": 5, "UNFIT": 7}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_its_documented_exit_code(verdict):
    assert verdict.exit_code == CODES[verdict.name]


def test_nothing_at_all_is_vacuous_not_passed():
    assert worst([]) is Verdict.VACUOUS


@pytest.mark.parametrize("other", [v for v in Verdict if v is not Verdict.FAILED])
def test_a_violation_outweighs_everything(other):
    assert worst([other, Verdict.FAILED, other]) is Verdict.FAILED


def test_an_interruption_outweighs_a_pass():
    assert worst([Verdict.PASSED, Verdict.INTERRUPTED]) is Verdict.INTERRUPTED


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_explained(verdict):
    assert verdict.meaning
