"""The process of a round, as the soak sees it, where it dies before it has told its outcome."""

from __future__ import annotations

import signal
import sys

import pytest

from stress.soak.child import RoundProcess
from stress.soak.stops import Stops
from stress.verdict import Verdict

HALF = r"printf '\000\000\004\000half' >/proc/self/fd/$4"  # of a message of 1024 bytes


@pytest.fixture
def outcome_of(tmp_path, monkeypatch):
    """The outcome of a round whose process is a script of the shell; ``$4`` is its pipe."""

    def listened(script):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        with Stops() as stops, RoundProcess("shmstress run", 1.0) as process:
            return process.listen(lambda message: None, lambda: None, stops)

    return listened


@pytest.mark.parametrize("script", [f"{HALF}; kill -KILL $$", "kill -KILL $$"])
def test_one_that_was_killed_is_an_error_of_the_round(outcome_of, script):
    outcome = outcome_of(script)
    assert outcome.verdict is Verdict.ERROR
    assert signal.SIGKILL.name in outcome.troubles[0]


def test_one_that_crashed_is_a_finding(outcome_of):
    outcome = outcome_of(f"echo no more >&2; {HALF}; kill -SEGV $$")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.troubles[0].endswith("saying: no more")


def test_one_that_ends_without_an_outcome_is_an_error(outcome_of):
    assert outcome_of("echo why >&2").troubles[0].endswith("saying: why")
