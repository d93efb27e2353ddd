"""Every public operation has a program, a crash case and a native run, or a reason why not."""

import functools
from pathlib import Path

from shmalloc.kernels import pages, pages_bulk
from stress import cli
from stress.programs.held import page_put, zone_put
from stress.report import operation_table
from stress.report.operation_holes import REASON_OF, REASONS
from stress.report.operations import called_by, name_of, public, rows
from stress.tables import text_of

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def holes():
    return {(row.name, column) for row in rows() for column in row.holes}


def test_no_operation_lacks_a_world_without_a_reason():
    assert holes() - set(REASON_OF) == set(), text_of(operation_table.table())


def test_a_reason_is_of_a_hole():
    assert set(REASON_OF) - holes() == set(), "called by now: take the reason away"


def test_a_reason_names_an_operation_once():
    named = [(name, column) for r in REASONS for name in r.operations for column in r.columns]
    assert len(named) == len(set(named))


def test_the_operations_are_those_that_the_faces_name():
    assert "pages" in public()[pages.alloc_pages]
    assert "recovery" in {face for faces in public().values() for face in faces}
    assert pages_bulk.bulk_to_zones not in public()


def test_what_an_operation_calls_itself_is_not_called_by_the_program():
    assert pages.free_pages_of in called_by([page_put])
    assert pages.free_pages_of not in called_by([zone_put])
    assert pages.free_to_zone not in called_by([page_put])


def test_the_page_repeats_the_table():
    page = (ROOT / "docs/operations.md").read_text()
    assert operation_table.refreshed(page) == page


def test_list_prints_who_calls_each_operation(capsys):
    assert cli.run(["list", "operations"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {name_of(kernel) for kernel in public()}
