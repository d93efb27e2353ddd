"""Waiting for memory: real processes sleep on the futex and are woken by a free."""

import multiprocessing
import time
from multiprocessing import shared_memory

import pytest

from shmalloc import constants as c
from shmalloc.engine import get_engine
from shmalloc.image import write_image
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from support import children, driver
from support.page_segment import SMALL, PageSegment


@pytest.fixture
def shared():
    layout = Layout.of(SMALL)
    memory = shared_memory.SharedMemory(create=True, size=layout.bytes)
    ram = Ram(memory.buf[: layout.bytes])
    write_image(ram, layout)
    yield memory, ram, layout
    ram.release()
    memory.close()
    memory.unlink()


def until(condition, limit_s=30.0):
    """Poll a condition of shared memory; fails with its name instead of guessing a delay."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition never came"
        time.sleep(0.001)


def test_a_sleeper_is_woken_by_a_free_in_another_process(shared):
    memory, ram, layout = shared
    engine = get_engine("native")
    engine.call(driver.drive, ram, 0, driver.BOOT, 0, 0, 0)
    pages = []
    while (pfn := engine.call(driver.drive, ram, 0, driver.ALLOC, 0, 1, 7)) >= 0:
        pages.append(pfn)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=children.wait_for_page, args=(memory.name, results))
    child.start()
    assert results.get(timeout=60) == "ready"
    until(lambda: ram[layout.cpu(1) + c.C_EVENTS + c.EV_WAIT] > 0)
    engine.call(driver.drive, ram, 0, driver.FREE, pages[17], 0, 0)
    assert results.get(timeout=60) == pages[17]
    child.join()
    assert (child.exitcode, ram[c.H_WAITERS]) == (0, 0)


def test_a_free_with_waiters_bypasses_the_per_cpu_list(engine):
    world = PageSegment(engine)
    pages = world.alloc_everything()
    world.mem[c.H_WAITERS] = world.mem[c.H_WAKE] = 1
    world.free(pages[0])
    assert (world.free_pages(), world.events(c.EV_WAKE), world.mem[c.H_WAKE]) == (1, 1, 2)


def test_a_second_free_wakes_no_sleeper_again(engine):
    world = PageSegment(engine)
    pages = world.alloc_everything()
    world.mem[c.H_WAITERS] = world.mem[c.H_WAKE] = 1
    for pfn in pages[:5]:
        world.free(pfn)
    assert world.events(c.EV_WAKE) == 1


def test_waiting_gives_up_after_its_rounds(engine):
    world = PageSegment(engine)
    world.alloc_everything()
    assert world.do(driver.ALLOC_WAIT, 0, 1, 2) == c.E_NOMEM
    assert (world.events(c.EV_WAIT), world.mem[c.H_WAITERS]) == (2, 0)


def test_a_stop_ends_the_waiting(engine):
    world = PageSegment(engine)
    world.alloc_everything()
    world.mem[c.H_STOP] = 1
    assert world.do(driver.ALLOC_WAIT, 0, 1, 1000) == c.E_NOMEM
