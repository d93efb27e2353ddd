"""A report says which kernel saw the violation, the same on both engines."""

from __future__ import annotations

import hashlib

import pytest

from shmalloc import constants as c
from shmalloc import kernel
from shmalloc.compiler import caller
from shmalloc.dialect import told_its_caller
from shmalloc.engine import get_engine
from shmalloc.image import write_image
from shmalloc.kernels.reporting import report
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.reports import Reports

ENGINES = ("native", "interpreted")


@told_its_caller
def keep_caller(mem, at, number=0):
    mem[at] = number


@kernel
def first(mem):
    keep_caller(mem, 0)


@kernel
def second(mem):
    keep_caller(mem, 1)
    first(mem)


@kernel
def refuse(mem, cpu):
    report(mem, cpu, c.I_TAIL, 1, 1, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_caller_is_the_kernel_that_the_call_stands_in(engine):
    ram = Ram.of_words(2)
    get_engine(engine).call(second, ram)
    names = [caller.name_of(ram[0]), caller.name_of(ram[1])]
    assert names == ["test_caller.first", "test_caller.second"]


def test_in_plain_python_the_caller_is_not_known():
    ram = Ram.of_words(2)
    second(ram)
    assert ram[1] == 0


def test_a_number_is_made_of_names_alone():
    digest = hashlib.sha256(b"test_caller.refuse").hexdigest()
    assert caller.number_of(refuse) == int(digest[:16], 16) // 4


def test_an_unknown_number_has_no_name():
    assert caller.name_of(12345) == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_report_names_its_kernel(engine):
    layout = Layout.of(Geometry(zones=(ZoneSpec(64),), page_bytes=4096, cpus=1))
    ram = Ram.of_words(layout.words)
    write_image(ram, layout)
    get_engine(engine).call(refuse, ram, 0)
    (violation,) = Reports(ram, layout).violations()
    assert (violation.invariant, violation.kernel) == ("I_TAIL", "test_caller.refuse")
