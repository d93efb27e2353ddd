"""Page descriptors in words, for traces and reports."""

import pytest

from shmalloc import constants as c
from shmalloc.descriptor_text import slab_text, state_text
from shmalloc.kernels.bits import pack


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((c.T_FREE, 1, 0, c.MT_MOVABLE, 0, 3), "FREE order 1 zone 0 MOVABLE v3"),
        (
            (c.T_ALLOCATED, 0, 1, c.MT_UNMOVABLE, 2, 7),
            "ALLOCATED order 0 zone 1 UNMOVABLE claim 2 v7",
        ),
        ((c.T_SLAB, 2, 0, c.MT_UNMOVABLE, 5, 0), "SLAB order 2 zone 0 UNMOVABLE cache 5 v0"),
        ((c.T_TAIL, 0, 0, 0, 0, 4), "TAIL v4"),
        ((c.T_FREE, 0, 0, c.MT_ISOLATE, 0, 1), "FREE order 0 zone 0 ISOLATE v1"),
    ],
)
def test_a_state_is_told_by_the_names_of_its_fields(fields, text):
    assert state_text(pack(*fields)) == text


def test_the_label_of_a_later_life_is_the_same_claim():
    detail = 9 << c.LABEL_EPOCH_SHIFT | 3
    assert "claim 3" in state_text(pack(c.T_PCP, 0, 0, 0, detail, 0))


@pytest.mark.parametrize("word", [-1, 0xF, c.T_COUNT])
def test_a_corrupt_word_is_called_corrupt(word):
    assert state_text(word) == f"corrupt word {word:#x}"


def test_word_1_of_a_slab_counts_its_objects():
    word = 3 << c.S_INUSE_SHIFT | 8 << c.S_OBJECTS_SHIFT
    assert slab_text(word) == "3 of 8 objects in use"
    assert slab_text(word | c.S_FROZEN_BIT).endswith(", frozen")
