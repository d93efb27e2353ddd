"""A Treiber stack: without a tag it has the ABA problem, which explore finds; a tag cures it."""

from shmalloc import kernel
from shmalloc.words import cas2, fixed, load, load2, store
from stress import Program, explore

TOP, STEP, TAKEN = 0, 2, 4  # [top, tag] | what a swap adds to the tag | what each CPU took


@kernel
def pop(mem, cpu):
    while True:
        top, tag = load2(mem, TOP)
        following = load(mem, top)  # a node is the number of its word, which names the next
        if cas2(mem, TOP, top, tag, following, tag + fixed(mem, STEP)):
            mem[TAKEN + cpu] = top
            return top


@kernel
def pop_two_push_one(mem, cpu):
    node = pop(mem, cpu)
    pop(mem, cpu)
    top, tag = load2(mem, TOP)
    store(mem, node, top)
    cas2(mem, TOP, top, tag, node, tag + fixed(mem, STEP))  # if this fails, the node leaks


@kernel
def kept(mem):
    return 1 if mem[TOP] == mem[TAKEN + 1] else 0  # 1: what CPU 1 keeps is on the stack again


NODES = [(TOP, 6), (6, 7), (7, 8)]
THREADS = [pop, pop_two_push_one]
untagged = Program(name="untagged", words=10, threads=THREADS, init=NODES, check=kept)
tagged = Program(name="tagged", words=10, threads=THREADS, init=[*NODES, (STEP, 1)], check=kept)
if __name__ == "__main__":
    for result in map(explore, (untagged, tagged)):
        print(result.failure.report() if result.failure else result.verdict)
