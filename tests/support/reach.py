"""What a kernel may call, found from its code alone: other kernels, and words of kernels."""

from __future__ import annotations

from shmalloc import words
from shmalloc.dialect import Kernel, is_kernel

WORDS = {word.__name__: word for word in words.WORDS}


def words_reached(entry: Kernel) -> set[str]:
    """Names of the words that ``entry`` and all kernels that it may call use."""
    seen, todo, found = set(), [entry], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in current.__code__.co_names:
            value = current.__globals__.get(name)
            if value is not None and value is WORDS.get(name):
                found.add(name)
            elif is_kernel(value):
                todo.append(value)
    return found
