"""Tables in print: the same text in a pipe and in a notebook."""

import pytest
from rich import console

from stress.tables import grid, text_of


@pytest.fixture(params=["elsewhere", "notebook"])
def place(request, monkeypatch):
    monkeypatch.setattr(console, "_is_jupyter", lambda: request.param == "notebook")


def sample():
    table = grid("name", "count", right=["count"])
    table.add_row("shm1/" + "x" * 200, "7")
    return table


def test_a_table_is_text_and_breaks_no_cell(place, capsys):
    heading, _, row = text_of(sample()).splitlines()
    assert heading.split() == ["name", "count"] and row.split() == ["shm1/" + "x" * 200, "7"]
    assert capsys.readouterr() == ("", "")
