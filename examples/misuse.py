"""A double free: the allocator refuses the call, names it, and shows the page's history.

Run: python examples/misuse.py
"""

from shmalloc import Arena, CorruptionError


def main() -> None:
    with Arena.create(size="16MiB", history=64) as arena:
        pfn = arena.alloc_pages(order=2)
        print(arena.describe(pfn))
        arena.free_pages(pfn, order=2)
        try:
            arena.free_pages(pfn, order=2)
        except CorruptionError as error:
            print(error)
            print(*error.violation.history, sep="\n")
        print("the audit afterwards finds", len(arena.validate()), "violations")


if __name__ == "__main__":
    main()
