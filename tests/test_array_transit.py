"""Arrays that real processes send to each other, under each way to start a process."""

from __future__ import annotations

import multiprocessing
import random

import numpy as np
import pytest

from shmalloc.arena import Arena
from shmalloc.errors import MisuseError
from support.array_situations import EXPECTED, SITUATIONS, TRANSIT, outcomes


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_every_situation_ends_as_promised_and_leaves_nothing(method: str) -> None:
    context = multiprocessing.get_context(method)
    # The others start the same processes in another way; `tox -e arena-situations` plays all.
    plays = SITUATIONS if method == "fork" else TRANSIT[::3]
    if method == "forkserver":
        context.set_forkserver_preload(["support.array_situations"])
    wanted = {play.__name__: (EXPECTED.get(play.__name__, "right"), 0) for play in plays}
    assert outcomes(context, plays) == wanted


def test_a_view_is_sent_as_a_view_on_every_axis() -> None:
    with Arena.create(size="4MiB") as arena:
        x = arena.array(np.arange(60.0).reshape(3, 4, 5))
        for view in (
            x[1:],
            x[:, ::2],
            x[..., ::-1],
            x.T,
            x[1, 2],
            x[:, :, 3],
            x.transpose(1, 0, 2),
        ):
            opened = arena.open(arena.send(view))
            assert (opened.tolist(), opened.strides) == (view.tolist(), view.strides)
            opened += 1
            assert opened.tolist() == view.tolist()


def test_an_array_without_bytes_is_sent_like_any_other() -> None:
    """numpy gives it no address of its own (docs/bugs.md 58)."""
    with Arena.create(size="4MiB") as arena:
        x = arena.array(np.zeros((3, 4)))
        for view in (arena.array(np.zeros((0, 4))), x[:0], x[3:], x[1:1, 2:]):
            opened = arena.open(arena.send(view))
            assert (opened.shape, opened.dtype) == (view.shape, view.dtype)


def test_an_array_without_bytes_is_kept_by_a_dict() -> None:
    with Arena.create(size="4MiB") as arena:
        kept, x = arena.dict(10), arena.array(np.zeros((3, 4)))
        for name, view in {"empty": arena.zeros((0, 4)), "view": x[3:]}.items():
            kept[name] = view
            assert kept[name].shape == view.shape == (0, 4)


def test_what_is_read_only_is_opened_read_only() -> None:
    with Arena.create(size="4MiB") as arena:
        x = arena.zeros(3)
        assert not arena.open(arena.send(x), readonly=True).flags.writeable
        x.flags.writeable = False
        assert not arena.open(arena.send(x)).flags.writeable


def test_forged_bytes_open_nothing_else() -> None:
    draw = random.Random(7)
    with Arena.create(size="4MiB", engine="interpreted") as arena:
        x, other = arena.full(50, 5.0), arena.full(50, 6.0)
        refused = 0
        for _ in range(300):
            sent = bytearray(arena.send(x[3:]))
            for _ in range(draw.choice([1, 1, 2, 3])):
                sent[draw.randrange(len(sent))] ^= 1 << draw.randrange(8)
            try:
                opened = arena.open(bytes(sent))
            except MisuseError:
                refused += 1
            else:
                assert np.may_share_memory(opened, x) or opened.size == 0
                assert not np.may_share_memory(opened, other)
                del opened
            arena.recover(transit_older_than=0)
        assert refused > 100
        assert (x.references, other.references) == (1, 1)
        for bad in (b"", b"x" * 30, "x", None):
            with pytest.raises(MisuseError):
                arena.open(bad)  # type: ignore[arg-type]
        with pytest.raises(MisuseError, match="does not lie in this arena"):
            arena.send(np.zeros(3))
