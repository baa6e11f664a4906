"""Writes a file, reads it again, and compares all of it with what was to be written."""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from weightd import _blocks, _safetensors_file, _tensorizer_file, _weight_file
from weightd._destination import synced
from weightd.errors import Error, error

if TYPE_CHECKING:
    import torch

# Of a tensorizer record's header, counted from its end: CRC32, type and size of the next hash, SHA-256, data length.
_CRC32 = slice(-46, -42)
_SHA256 = slice(-40, -8)


class _Found(NamedTuple):
    """A tensor as the file has it."""

    name: str
    type_name: str
    shape: list[int]
    begin: int
    end: int


def write(path: Path, plan: _weight_file.Plan) -> None:
    """Writes a new file and checks it. Raises as `check`, and OSError."""
    with synced(path) as file:
        plan.write(file)
    check(path, plan)


def check(path: Path, plan: _weight_file.Plan) -> None:
    """Raises MalformedModelError (VERIFICATION_FAILED) unless the file has the plan's tensors, bit for bit."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        is_safetensors = isinstance(plan, _safetensors_file.Plan)
        try:
            if content[: len(plan.head)] != plan.head:
                raise ValueError("another header")
            found = _read_safetensors(content) if is_safetensors else list(_read_tensorizer(content))
        except (ValueError, KeyError, TypeError, IndexError, struct.error) as failure:
            raise _differs(path, "its header can't be read") from failure
        if len(found) != len(plan.entries):
            raise _differs(path, f"it has {len(found)} tensors, and should have {len(plan.entries)}")
        for tensor, entry in zip(found, plan.entries, strict=True):
            if tensor[:3] != (entry.name, *_described(entry.tensor, is_safetensors)):
                raise _differs(path, f"it has {tensor[:3]} where {entry.name!r} should be")
            if not _has_bytes(content, tensor, entry.tensor):
                raise _differs(path, f"the bytes of {entry.name!r} are others")
            _release(content, tensor.begin, tensor.end)


def _described(tensor: torch.Tensor, is_safetensors: bool) -> tuple[str, list[int]]:
    if is_safetensors:
        return _safetensors_file.type_name(tensor) or "", _safetensors_file.shape(tensor)
    return _tensorizer_file.type_name(tensor)[0].decode(), list(tensor.shape)


def _has_bytes(content: mmap.mmap, found: _Found, tensor: torch.Tensor) -> bool:
    import torch

    at = found.begin
    for block in _blocks.blocks(tensor):
        if at + len(block) > found.end:
            return False
        stored = torch.frombuffer(content, dtype=torch.uint8, count=len(block), offset=at)
        if not torch.equal(stored, torch.frombuffer(block, dtype=torch.uint8)):
            return False
        at += len(block)
    return at == found.end


def _read_safetensors(content: mmap.mmap) -> list[_Found]:
    (size,) = struct.unpack_from("<Q", content)
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    found = []
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found.append(_Found(name, entry["dtype"], entry["shape"], 8 + size + begin, 8 + size + end))
    if [8 + size, *(tensor.end for tensor in found)] != [*(tensor.begin for tensor in found), len(content)]:
        raise ValueError("holes, or bytes at the end")
    return found


def _read_tensorizer(content: mmap.mmap) -> Iterator[_Found]:
    """Also compares each record's hashes."""
    magic, version, flags, count, size = struct.unpack_from("<5sI32s16xQQ", content)
    if magic != b"|TZR|" or flags[0] != (2 if version == 5 else 0):
        raise ValueError("not a tensorizer file")
    at, next_header = 73, 73 + size
    for _ in range(count):
        is_long = False
        if version == 5:
            is_long = content[at] == 5
            at += 4
        name, at = _text(content, at, "<H")
        type_name, at = _text(content, at + 1, "<B")
        shape = struct.unpack_from(f"<{content[at]}{'Q' if is_long else 'I'}", content, at + 1)
        at += 1 + len(shape) * (8 if is_long else 4)
        header, begin, length = struct.unpack_from("<QQQ", content, at)
        at += 24
        if header != next_header or begin - header != int.from_bytes(content[header : header + 8], "little"):
            raise ValueError("a header is not where it should be")
        next_header = begin + length
        _check_hashes(bytearray(content[header:begin]), memoryview(content)[begin:next_header])
        _release(content, begin, next_header)
        yield _Found(name, type_name, list(shape), begin, next_header)
    if content[next_header:] != bytes(8):
        raise ValueError("no terminator")


def _check_hashes(header: bytearray, data: memoryview) -> None:
    crc32, sha256 = int.from_bytes(header[_CRC32], "little"), bytes(header[_SHA256])
    header[_CRC32], header[_SHA256] = bytes(4), bytes(32)
    digest = hashlib.sha256(header)
    with data:
        digest.update(data)
        if zlib.crc32(data, zlib.crc32(header)) != crc32 or digest.digest() != sha256:
            raise ValueError("a hash differs")


def _release(content: mmap.mmap, begin: int, end: int) -> None:
    """Unmaps whole pages that were looked at; the next look finds them in the file again."""
    first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        content.madvise(mmap.MADV_DONTNEED, first, last - first)


def _text(content: mmap.mmap, at: int, count: str) -> tuple[str, int]:
    """Text with its length before it, and where it ends."""
    begin = at + struct.calcsize(count)
    end = begin + struct.unpack_from(count, content, at)[0]
    return content[begin:end].decode(), end


def _differs(path: Path, message: str) -> Error:
    hint = "is the disk healthy, and did IN stay as it was? Otherwise this is a bug of weightd"
    return error("VERIFICATION_FAILED", f"what was written differs: {message}", model=path.name, hint=hint)
