"""A queue of jobs, one of whose workers is killed: the others go on, its job is lost with it.

Run: python examples/job_queue.py
"""

import multiprocessing
import os
import signal
from queue import Empty

from shmalloc import Arena, Queue


def work(jobs: Queue, results: Queue, fails: bool) -> None:
    """In a child: squares, until no job is left. One worker dies in the middle of a job."""
    while True:
        try:
            job = jobs.get(timeout=0.5)
        except Empty:
            return
        if fails and job == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        results.put(job * job)


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with Arena.create(size="16MiB") as arena:
        jobs, results = arena.queue(10), arena.queue(10)
        for job in range(8):
            jobs.put(job)
        for fails in (True, False):
            worker = context.Process(target=work, args=(jobs, results, fails))
            worker.start()
            worker.join()
        print(f"done: {sorted(results.get() for _ in range(results.qsize()))}")


if __name__ == "__main__":
    main()
