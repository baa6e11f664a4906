"""Bytes of torch tensors, a block at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weightd.errors import error

if TYPE_CHECKING:
    import torch

# What is copied at once of tensors that don't lie as they are stored.
_BLOCK_BYTES = 64 << 20


def size(tensor: torch.Tensor) -> int:
    """Bytes of the tensor when it is C-contiguous, also for meta tensors, which have none in memory."""
    return tensor.numel() * tensor.element_size()


def check(name: str, tensor: torch.Tensor) -> None:
    """Raises InvalidRequestError unless `blocks` can give the tensor's bytes, or it is a meta tensor."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        layout = str(tensor.layout).removeprefix("torch.")
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else layout
        raise _no_bytes(name, f"is {kind}", "give its parts as tensors of their own")
    if tensor.is_meta or not tensor.numel():
        return
    try:
        held = tensor.untyped_storage()
        present = held.data_ptr() != 0
    except (RuntimeError, NotImplementedError):
        present = False
    if not present:
        raise _no_bytes(name, f"({type(tensor).__name__}) has no memory of its own", "gather it into a plain tensor")
    last = sum((extent - 1) * step for extent, step in zip(tensor.shape, tensor.stride(), strict=True))
    if (tensor.storage_offset() + last + 1) * tensor.element_size() > held.nbytes():
        raise _no_bytes(name, "is larger than its storage", "load it into memory first")


def blocks(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor that `check` accepted, in C order; each block is valid until the next is asked for.

    What lies contiguous in this machine's memory is given as it is; the rest is copied, at most 64 MiB at a time. A
    meta tensor has no blocks.
    """
    if not tensor.numel() or tensor.is_meta:
        return
    tensor = tensor.detach()
    plain = tensor.device.type == "cpu" and not tensor.is_conj() and not tensor.is_neg()
    if plain and tensor.is_contiguous():
        yield _view(tensor)
    elif size(tensor) <= _BLOCK_BYTES or not tensor.dim():
        copy = tensor.resolve_conj().resolve_neg().cpu().contiguous()
        yield _view(copy)  # which lives as long as this generator waits here
    else:
        rows = max(1, _BLOCK_BYTES // (size(tensor) // tensor.shape[0]))
        for begin in range(0, tensor.shape[0], rows):
            part = tensor[begin : begin + rows]
            # A single row that is too large is divided along the next axis.
            yield from blocks(part[0] if len(part) == 1 else part)


def _view(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor, which must outlive it. numpy, which knows fewer types, isn't needed."""
    return memoryview((ctypes.c_char * size(tensor)).from_address(tensor.data_ptr())).cast("B")


def _no_bytes(name: str, why: str, hint: str) -> Exception:
    return error("UNSUPPORTED", f"tensor {name!r} {why} and can't be written", hint=hint)
