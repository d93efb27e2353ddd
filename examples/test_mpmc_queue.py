"""A broken queue for many: real processes find it, a schedule explains it. Run: pytest -s FILE"""

from shmalloc import constants as c
from shmalloc import kernel
from shmalloc.kernels.reporting import report
from shmalloc.words import exchange, fetch_add, load, store
from stress.explain import explain_result
from stress.workloads import Workload
from stress.workloads.area import work_at

BEGUN, HEAD, TAIL, RING, TAKEN = 16, 18, 20, 22, 38  # in the work area; the queue in that of cpu 0


@kernel
def get(mem, queue):
    head = load(mem, queue + HEAD)
    if head == load(mem, queue + TAIL):
        return 0
    ticket = load(mem, queue + RING + head % 16)
    store(mem, queue + HEAD, head + 1)  # two may come here with one head: this must be a cas
    return ticket


@kernel
def step(mem, cpu, steps):
    queue = work_at(mem, 0)
    for _ in range(steps):
        ticket = get(mem, queue)
        if exchange(mem, work_at(mem, cpu) + BEGUN, 1) == 0 and ticket == 0:
            ticket = cpu + 1
        if ticket != 0:
            if exchange(mem, queue + TAKEN + ticket, 1) != 0:
                report(mem, cpu, c.X_DOUBLE_ALLOC, ticket, 0, 1)
            store(mem, queue + TAKEN + ticket, 0)
            store(mem, queue + RING + fetch_add(mem, queue + TAIL, 1) % 16, ticket)
    return steps


@kernel
def finish(mem, cpu):
    return 0


def test_a_ticket_that_two_processes_got_is_explained(stress_run, tmp_path):
    queue = Workload("mpmc", step, finish, work_words=64)
    run = stress_run(queue, workers=4, seconds=9, ram="8MiB")
    assert explain_result(run, seconds=60, into=str(tmp_path)).found.same
