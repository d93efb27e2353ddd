"""A seqlock over two words: a reader that does not check the version twice sees torn values."""

from shmalloc import kernel
from shmalloc.words import fence, fixed, load, load_relaxed, relax, store, store_relaxed
from stress import Program, explore

VERSION, LEFT, RIGHT, TORN, CARELESS = 0, 2, 3, 4, 5  # odd version: being written


@kernel
def write(mem, cpu):
    store(mem, VERSION, 1)
    fence(mem)  # the odd version is visible before either word
    store_relaxed(mem, LEFT, 7)
    store_relaxed(mem, RIGHT, 7)
    store(mem, VERSION, 2)


@kernel
def read(mem, cpu):
    while True:
        version = load(mem, VERSION)
        torn = load_relaxed(mem, LEFT) - load_relaxed(mem, RIGHT)
        if fixed(mem, CARELESS) == 1 or (version % 2 == 0 and load(mem, VERSION) == version):
            mem[TORN] = torn
            return
        relax(mem)


@kernel
def whole(mem):
    return abs(mem[TORN])


BOTH = [write, read]
careful = Program(name="seqlock", words=6, threads=BOTH, check=whole)
careless = Program(name="careless", words=6, threads=BOTH, init=[(CARELESS, 1)], check=whole)
if __name__ == "__main__":
    for result in map(explore, (careful, careless)):
        print(result.failure.report() if result.failure else result.verdict)
