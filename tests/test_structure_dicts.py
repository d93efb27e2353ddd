"""The dict: it is a mapping, refuses what it cannot keep, keeps arrays, and outlives its users."""

import gc
import multiprocessing
import os
import pickle
import random
import threading

import numpy as np
import pytest

from shmalloc import Arena, Dict, MisuseError, OutOfMemoryError, open_structure
from shmalloc import constants as c
from shmalloc.structures.dict_keys import encoded
from shmalloc.structures.kernels.hashtable import D_BUCKETS, NUMBER_BITS
from stress.linearize import Model, check
from support.start_methods import change_everything
from support.structure_histories import history

PATIENCE_S = 60.0


@pytest.fixture
def arena():
    with Arena.create(size="2MiB", engine="interpreted") as made:
        yield made
        assert made.validate() == []


@pytest.fixture(scope="module")
def shared():
    with Arena.create(size="4MiB") as made:
        yield made
        assert made.validate() == []


def free_pages(arena):
    """When no array is left but those that live; the first one makes a table of references."""
    arena.zeros(1)
    gc.collect()
    arena.collect()
    arena.drain()
    return sum(zone.free_pages for zone in arena.statistics().zones)


def references(arena):
    """To all arrays, in all processes."""
    gc.collect()
    arena.collect()
    at, pages = arena.segment.layout.at["arrays"], arena.geometry.pages
    counts = arena.segment.ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE]
    return int((counts & c.AR_REFS_MASK).sum())


# --- a mapping -----------------------------------------------------------------------------------
def test_it_does_what_a_dict_does(shared):
    """Also when all keys have one of three hashes."""
    draw = random.Random(7)
    keys = [1, -1, 0, 2**70, "a", b"a", "", b"", "ä\udc80", "1", b"1"]
    table, model = shared.dict(len(keys), item_bytes=40), {}
    real = table._hash
    for turn in range(1_500):
        if turn == 750:
            table.clear()
            model.clear()
            type(table)._hash = lambda self, data: real(data) % 3
        key, value = draw.choice(keys), draw.randbytes(draw.randrange(20))
        name = draw.choice(["set", "set", "get", "pop", "setdefault", "in", "len", "del"])
        if name == "set":
            table[key] = model[key] = value
        elif name == "del" and key in model:
            del table[key], model[key]
        elif name == "setdefault":
            assert table.setdefault(key, value) == model.setdefault(key, value)
        else:
            assert table.pop(key, None) == model.pop(key, None) if name == "pop" else True
            assert (table.get(key), key in table) == (model.get(key), key in model)
            assert len(table) == len(model)
    del type(table)._hash
    type(table)._hash = real.__func__
    table.destroy()


def test_its_contents_can_be_gone_through(arena):
    table = arena.dict(10, item_bytes=16)
    table.update({"a": b"1", 2: b"2"}, c=b"3")
    expected = {"a": b"1", 2: b"2", "c": b"3"}
    assert dict(table.items()) == dict(table) == expected
    assert (sorted(table.values()), set(table)) == ([b"1", b"2", b"3"], set(expected))
    key, value = table.popitem()
    assert expected.pop(key) == value
    table.clear()
    assert (len(table), list(table), bool(table)) == (0, [], False)
    for missing in (table.popitem, lambda: table["a"], lambda: table.pop(2)):
        with pytest.raises(KeyError):
            missing()
    with pytest.raises(KeyError, match="'a'"):
        del table["a"]


def test_keys_of_different_types_are_different(arena):
    table = arena.dict(20, item_bytes=16)
    keys = ["1", b"1", 1, 49, "", b"", 0, -1, 127, 128, -128, -129, 255, 256]
    for number, key in enumerate(keys):
        table[key] = bytes([number])
    assert [table[key][0] for key in keys] == list(range(len(keys)))
    assert set(table) == set(keys)
    assert table[np.int16(-129)] == table[-129]
    assert len({encoded(key) for key in keys}) == len(keys)


def test_what_is_no_key_or_no_value_is_refused_and_takes_no_room(arena):
    table = arena.dict(1, item_bytes=10)
    for key in (True, 1.0, None, (1,), bytearray(b"a"), np.bool_(True)):
        for use in (
            table.get,
            table.pop,
            table.__contains__,
            lambda key: table.__setitem__(key, b""),
        ):
            with pytest.raises(MisuseError, match="key: "):
                use(key)
    for value in ("text", 1, None, bytearray(b"a"), [b"a"]):
        with pytest.raises(
            MisuseError, match=f"value: a {type(value).__name__}; a dict keeps bytes"
        ):
            table["a"] = value
    with pytest.raises(MisuseError, match="key and value take 11 bytes; this dict takes 10"):
        table["abc"] = b"x" * 8
    table["abc"] = b"x" * 7
    assert dict(table) == {"abc": b"x" * 7}


def test_a_full_dict_says_so_and_still_replaces_and_frees(arena):
    table = arena.dict(3, item_bytes=8)
    for key in range(3):
        table[key] = b"1"
    for more in (lambda: table.update({3: b"1"}), lambda: table.setdefault(3, b"1")):
        with pytest.raises(OutOfMemoryError, match="all of its 3 keys are taken"):
            more()
    assert issubclass(OutOfMemoryError, MemoryError)
    for turn in range(20):
        table[turn % 3] = bytes([turn])
    del table[0]
    table[3] = b"new"
    assert dict(table) == {1: b"\x13", 2: b"\x11", 3: b"new"}


def test_a_dict_without_room_or_of_wrong_size_is_refused_and_leaves_nothing(arena):
    free = free_pages(arena)
    with pytest.raises(OutOfMemoryError, match=r"dict\(capacity=100000, item_bytes=256\)"):
        arena.dict(100_000)
    for wrong in (0, -1, 1 << 20, True, "2", 1.5):
        with pytest.raises(MisuseError, match="capacity: "):
            arena.dict(wrong)
    assert free_pages(arena) == free
    arena.dict(20).destroy()
    assert free_pages(arena) == free


def test_entries_in_several_blocks_are_found():
    with Arena.create(size="2MiB", max_order=4, pageblock_order=4, engine="interpreted") as arena:
        with pytest.raises(MisuseError, match="item_bytes: "):
            arena.dict(1, item_bytes=arena._largest_block)
        table = arena.dict(3, item_bytes=20_000)
        assert len(table._blocks) > 1
        values = {key: bytes([key]) * 19_000 for key in range(3)}
        table.update(values)
        assert dict(table) == values


def test_a_dict_pickles_to_a_handle_and_is_one_object(arena):
    table = arena.dict(2)
    assert pickle.loads(pickle.dumps(table)) is table
    assert arena.open_structure(table.handle) is table
    assert table == table and hash(table) == hash(table) and table != {}
    other = arena.dict(2)
    table.destroy()
    for use in (table.get, table.pop, table.__contains__):
        with pytest.raises(MisuseError, match="dict: it was destroyed"):
            use("a")
    for use in (lambda: table.update(a=b""), table.__len__, lambda: list(table)):
        with pytest.raises(MisuseError, match="dict: it was destroyed"):
            use()
    other["a"] = b"1"
    assert other["a"] == b"1"


def test_an_exception_in_the_middle_of_a_write_takes_no_entry(arena):
    table = arena.dict(1, item_bytes=8)
    publish = table._publish

    class Broken(Dict):
        __slots__ = ()

        def _publish(self, *arguments):
            raise KeyboardInterrupt

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            Broken(arena, table._at, table._state)["a"] = b"1"
    assert len(table) == 0
    table["a"] = b"2"
    assert (table["a"], publish.__self__) == (b"2", table)


# --- arrays --------------------------------------------------------------------------------------
def test_an_array_lives_as_long_as_the_dict_has_it(arena):
    table = arena.dict(4)
    free = free_pages(arena)
    table["x"] = arena.array(np.arange(5))
    assert free_pages(arena) < free
    assert table["x"].tolist() == [0, 1, 2, 3, 4]
    table["x"][2] = 9
    assert (table["x"].tolist(), len(table["x"])) == ([0, 1, 9, 3, 4], 5)
    kept = table.pop("x")
    assert (kept.references, kept[2], "x" in table) == (1, 9, False)
    del kept
    for key in ("x", "x", "y"):
        table[key] = arena.full(3, 7)
    assert dict.fromkeys(table, 1) == {"x": 1, "y": 1}
    assert [value.sum() for value in table.values()] == [21, 21]
    table["x"] = b"bytes"
    table.clear()
    assert free_pages(arena) == free


def test_a_view_is_kept_as_a_view(arena):
    table = arena.dict(4)
    x = arena.array(np.arange(12.0).reshape(3, 4))
    views = {"column": x[:, 1], "row": x[2], "turned": x.T, "part": x[::2, ::-1], "whole": x}
    for name in ("column", "row", "turned", "part"):
        table[name] = views[name]
        assert table[name].tolist() == views[name].tolist()
        assert np.shares_memory(np.asarray(table[name]), np.asarray(x))
    del table["row"]
    x.flags.writeable = False
    table["whole"] = x
    assert (table["whole"].flags.writeable, table["column"].flags.writeable) == (False, True)
    x.flags.writeable = True


def test_what_is_no_array_of_the_arena_is_refused(arena):
    table = arena.dict(2)
    with Arena.create(size="1MiB", engine="interpreted") as other:
        for foreign in (np.zeros(3), other.zeros(3), pickle.loads(pickle.dumps(arena.zeros(3)))):
            with pytest.raises(MisuseError, match="array: it does not lie in this arena"):
                table["x"] = foreign
    assert len(table) == 0


def test_the_arrays_of_a_destroyed_dict_are_given_back(arena):
    free = free_pages(arena)
    table = arena.dict(4)
    kept = arena.zeros(3)
    table.update(a=kept, b=arena.zeros(600), c=b"bytes")
    table.destroy()
    assert kept.references == 1
    del kept
    assert free_pages(arena) == free


def test_the_arena_takes_back_what_dead_writers_left_when_memory_is_wanted(arena):
    """The entry has left its chain, and its array was not dropped."""
    table = arena.dict(2)
    free = free_pages(arena)
    table["x"] = arena.zeros(3)
    end = table._end
    Dict._end = lambda self, token: None
    try:
        del table["x"]
    finally:
        Dict._end = end.__func__
    ram = arena.segment.ram
    block = table._blocks[0]
    for at in range(block, block + 10 * table._stride, table._stride):
        if ram[at] & 3 == 3:
            ram[at + 1] = 0  # as of a process that died there
    assert free_pages(arena) < free
    arena.recover()
    assert free_pages(arena) == free


# --- several processes ---------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_and_changes_it(shared, method):
    table = shared.dict(5)
    table.update(given=shared.array(np.arange(3)), left=b"1")
    context = multiprocessing.get_context(method)
    child = context.Process(target=change_everything, args=(table.handle, 4))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    assert np.frombuffer(table["of 4"], np.int64).tolist() == [0, 1, 2]
    assert table["array"].tolist() == [0, 1, 2, 3]
    assert set(table) == {"of 4", "array"}
    table.destroy()


def write_half_and_die(handle):
    """A writer that dies before its exchange, and leaves an entry and its array."""
    table = open_structure(handle)
    Dict._publish = lambda self, *arguments: os.kill(os.getpid(), 9)
    table["b"] = table._arena.zeros(3)


def test_what_a_dead_writer_had_begun_is_free_again(shared):
    table = shared.dict(1)
    table["a"] = b"1"
    for _ in range(12):  # more than there are spare entries
        child = multiprocessing.get_context("fork").Process(
            target=write_half_and_die, args=(table.handle,)
        )
        child.start()
        child.join(PATIENCE_S)
        assert child.exitcode == -9
    table["a"] = b"2"
    assert dict(table) == {"a": b"2"}
    shared.recover()
    assert references(shared) == 0
    table.destroy()


def test_threads_use_one_dict(shared):
    table, wrong = shared.dict(40), []

    def use(number):
        for turn in range(100):
            key = number * 10 + turn % 5
            table[key] = bytes([turn])
            if table[key] != bytes([turn]):
                wrong.append((number, turn))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (wrong, len(table)) == ([], 20)
    table.destroy()


def exchange(number, structures, do):
    (table,) = structures
    draw = random.Random(number)
    for turn in range(20):
        key, value = draw.choice("ab"), b"%d.%d" % (number, turn)
        do("set", (key, value), lambda key=key, value=value: table.__setitem__(key, value))
        key = draw.choice("ab")
        do("get", (key, None), lambda key=key: table.get(key))
        key = draw.choice("ab")
        do("pop", (key, None), lambda key=key: table.pop(key, None))
        key = draw.choice("ab")
        do("setdefault", (key, value), lambda key=key, value=value: table.setdefault(key, value))


def mapping(state, operation):
    """A dict, as a set of pairs."""
    now, (key, value) = dict(state), operation.argument
    if operation.name == "set":
        now[key] = value
    else:
        had = now.setdefault(key, value) if operation.name == "setdefault" else now.get(key)
        if operation.name == "pop":
            now.pop(key, None)
        if had != operation.result:
            return None
    return frozenset(now.items())


def test_the_history_of_three_processes_is_linearizable(shared):
    table = shared.dict(2)
    found = history(shared, [table.handle], exchange, clients=3)
    assert len(found) == 240
    model = Model(frozenset(), mapping, by_client=False, name="dict")
    assert check(found, model).verdict == "linearizable"
    table.destroy()


def iterate(handle, stop):
    table = open_structure(handle)
    number = 0
    while not stop.load():
        for key in range(50, 60):
            table[key] = b"%d" % number
        for key in range(50, 60):
            del table[key]
        number += 1


def test_an_iteration_meets_once_what_is_there_all_the_time(shared):
    table, stop = shared.dict(64), shared.atomic()
    for key in range(50):
        table[key] = b"%d" % key
    child = multiprocessing.get_context("fork").Process(
        target=iterate, args=(table.handle, stop), daemon=True
    )
    child.start()
    for _ in range(40):
        seen = [(key, value) for key, value in table.items() if key < 50]
        assert sorted(seen) == [(key, b"%d" % key) for key in range(50)]
        assert 50 <= len(table) <= 60
    stop.store(1)
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    assert table._segment.ram[table._d + D_BUCKETS + 1] >> NUMBER_BITS == 0
    table.destroy()
