"""Writes safetensors files: u64 header size | JSON | the tensors' bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from weightd import _blocks, _frameworks
from weightd._entries import Entry
from weightd.errors import error

if TYPE_CHECKING:
    import torch

# In the order of the format's own writer, which puts the types with the strictest alignment first in a file: its last
# come first.
_TYPES = (
    *("BOOL", "F4", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    *("I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"),
)
_RANKS = {f"torch.{_frameworks.torch_type_name(name)}": rank for rank, name in enumerate(_TYPES)}
_MAX_HEADER_BYTES = 100_000_000


class Plan(NamedTuple):
    """A file before it is written. The tensors must not change until then."""

    head: bytes
    """All that lies before the first tensor's bytes."""
    entries: list[Entry]
    """In the order of the file."""

    def write(self, file: BinaryIO) -> None:
        """Writes it at the file's position."""
        file.write(self.head)
        for entry in self.entries:
            for block in _blocks.blocks(entry.tensor):
                file.write(block)


def plan(entries: list[Entry], metadata: Mapping[str, str]) -> Plan:
    """Where everything lies. Raises InvalidRequestError for what the format can't hold."""
    ranked = sorted(((_rank(entry), entry) for entry in entries), key=lambda pair: (-pair[0], pair[1].name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for rank, entry in ranked:
        begin, end = end, end + _blocks.size(entry.tensor)
        header[entry.name] = {"dtype": _TYPES[rank], "shape": shape(entry.tensor), "data_offsets": [begin, end]}
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as failure:
        raise _unwritable(f"the text {failure.object!r:.80} is not Unicode", "rename it") from failure
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER_BYTES:
        raise _unwritable(f"a header of {len(text)} bytes is too large", "write several files, or a .tensors file")
    return Plan(struct.pack("<Q", len(text)) + text, [entry for _, entry in ranked])


def type_name(tensor: torch.Tensor) -> str | None:
    """The tensor's type as the format spells it; None if it has none."""
    rank = _RANKS.get(str(tensor.dtype))
    return None if rank is None else _TYPES[rank]


def shape(tensor: torch.Tensor) -> list[int]:
    """Extents as the format counts them: of elements, where torch counts pairs of 4-bit ones."""
    extents = list(tensor.shape)
    if str(tensor.dtype) == "torch.float4_e2m1fn_x2":
        extents[-1] *= 2
    return extents


def _rank(entry: Entry) -> int:
    """Position of the tensor's type in _TYPES."""
    name, tensor = entry.name, entry.tensor
    rank = _RANKS.get(str(tensor.dtype))
    if rank is None:
        raise _unwritable(f"safetensors has no type for {name!r}, {tensor.dtype}", "write a .tensors file")
    if tensor.is_meta:
        raise _unwritable(f"{name!r} is a meta tensor, without bytes", "materialise it, or write a .tensors file")
    if _TYPES[rank] == "F4" and not tensor.dim():
        raise _unwritable(f"{name!r} is a pair of 4-bit elements without an axis", "give it shape (1,)")
    if name == "__metadata__":
        raise _unwritable("safetensors keeps the name '__metadata__' for itself", "rename that tensor")
    return rank


def _unwritable(what: str, hint: str) -> Exception:
    return error("UNSUPPORTED", what, hint=hint)
