"""How memory that ran out is told from other errors, on a device or on the host."""

from __future__ import annotations

from ablate.errors import OutOfMemoryError

TEXTS = (
    *("out of memory", "can't allocate memory"),  # torch's own allocators
    *("std::bad_alloc", "could not create a memory object"),  # C++, and oneDNN within a convolution
)
ENDS = ("could not create a primitive", "could not execute a primitive")
"""oneDNN: no memory for generated code, or for scratch; an operation that it lacks has another ending."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; not so for our own OutOfMemoryError, which says more already.

    torch has a class of its own for GPUs, whose text is like those of its RuntimeErrors on a CPU.
    """
    if isinstance(error, MemoryError):
        return not isinstance(error, OutOfMemoryError)
    text = str(error)
    return any(words in text for words in TEXTS) or text.rstrip().endswith(ENDS)
