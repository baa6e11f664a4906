"""One number for a tensor's bytes, which depends on where each word is: made on the GPU by torch, or by numpy."""

import typing

import numpy

MASK = (1 << 64) - 1
CHUNK = 4 << 20  # words at once


def of_bytes(content: bytes | memoryview) -> int:
    """By numpy. The length is a multiple of 8."""
    words = numpy.frombuffer(content, dtype=numpy.uint64)
    total = 0
    for first in range(0, len(words), CHUNK):
        part = words[first : first + CHUNK]
        places = numpy.arange(first, first + len(part), dtype=numpy.uint64) * numpy.uint64(2) + numpy.uint64(1)
        total += int((part * places).sum(dtype=numpy.uint64))
    return total & MASK


def of_tensor(tensor: typing.Any) -> int:
    """By torch, where the tensor is: the same number."""
    import torch

    words = tensor.reshape(-1).view(torch.int64)
    total = 0
    for first in range(0, len(words), CHUNK):
        part = words[first : first + CHUNK]
        places = torch.arange(first, first + len(part), dtype=torch.int64, device=part.device) * 2 + 1
        total += int((part * places).sum())
    return total & MASK


def of_all(sums: dict[str, int]) -> str:
    """Of a model's tensors by name."""
    total = 0
    for name in sorted(sums):
        total = (total * 31 + sums[name]) & MASK
    return f"{total:016x}"
