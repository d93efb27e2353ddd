"""Words of a command line: they come back from the line, and no terminal obeys it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stress import shell
from stress.line import Line

# A name of a file may have any byte but 0; as Python reads it, those that are no text are lone.
NAMES = st.binary(max_size=8).map(lambda name: os.fsdecode(name.replace(b"\0", b"")))
WORDS = st.lists(NAMES | st.text(alphabet=" '\"\\$`a\n\x1b\x7f\u202e\U0001f600", max_size=6))


@given(WORDS)
@example(["$'", "a $'b", "\\'", "\x1b[2J'x", ""])
def test_the_words_of_a_line_come_back(words: list[str]) -> None:
    assert shell.split(shell.join(words)) == words


@given(WORDS)
def test_a_line_has_no_character_that_a_terminal_obeys(words: list[str]) -> None:
    assert shell.join(words).isprintable()


def test_a_line_that_people_write_is_read_as_a_shell_does() -> None:
    assert shell.split(r"""run a\ b 'c d'"e $f" "\"g"  h""") == ["run", "a b", "c de $f", '"g', "h"]


def test_a_quotation_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="no closing quotation"):
        shell.split("run 'a")


@pytest.mark.skipif(shutil.which("bash") is None, reason="reads the line")
def test_bash_reads_the_same_words() -> None:
    words = ["\x1b[2Ja", "it's", "\udcff\n", "\u202ex", "$HOME `x` \\", "$'", ""]
    line = f"printf '%s\\0' {shell.join(words)}"
    command = ["bash", "-c", line]
    found = subprocess.run(command, capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True)
    assert [os.fsdecode(word) for word in found.stdout.split(b"\0")[:-1]] == words


def test_a_line_of_ours_is_kept_with_escapes_and_names_the_same_file() -> None:
    line = Line("run", (), {"workload": "\x1b]0;owned\x07.py"})
    assert "\x1b" not in str(line) and Line.parse(str(line)) == line
