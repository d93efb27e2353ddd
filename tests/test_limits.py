"""Limits of the process that an arena meets are told with their cure."""

import os
import resource
from contextlib import contextmanager

import pytest

from shmalloc import Arena
from shmalloc.errors import EnvironmentUnfitError, MisuseError

SMALL = {"size": "64KiB", "page_bytes": 64, "pageblock_order": 3, "max_order": 5}


@contextmanager
def limited(which, most):
    before = resource.getrlimit(which)
    resource.setrlimit(which, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def first_free_descriptor():
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_a_limit_of_file_sizes_is_told_with_the_cure():
    told = pytest.raises(EnvironmentUnfitError, match=r"size: .* so large.*ulimit -f")
    with limited(resource.RLIMIT_FSIZE, 1000), told:
        Arena.create(**SMALL)


@pytest.mark.parametrize("more", range(4))
def test_a_limit_of_open_files_is_told_with_the_cure(more):
    with (
        Arena.create(**SMALL) as arena,
        limited(resource.RLIMIT_NOFILE, first_free_descriptor() + more),
    ):
        for use in (lambda: Arena.create(**SMALL), lambda: Arena.attach(arena.name)):
            try:
                use().close()
            except EnvironmentUnfitError as told:
                assert "ulimit -n" in str(told)
            else:
                assert more >= 2  # the segment, and its claim


@pytest.mark.parametrize("seconds", ["5", -1, True, [3]])
def test_only_seconds_are_an_age(seconds):
    told = pytest.raises(MisuseError, match=r"transit_older_than: .*; use seconds >= 0")
    with Arena.create(**SMALL) as arena, told:
        arena.recover(transit_older_than=seconds)
