"""Writes tensorizer files: preamble | metadata region | records, each a header and a tensor's bytes | zero.

All integers are little-endian, nothing is aligned. Where everything lies is known before the first byte is written;
only the hashes in a record's header wait for its tensor.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from weightd import _blocks
from weightd._entries import Entry
from weightd.errors import error

if TYPE_CHECKING:
    import torch

_MAGIC = b"|TZR|"
_PREAMBLE = struct.Struct("<5sI32sQ8xQQ")
# tensorizer's own size of the metadata region, and the step in which a larger one grows.
_METADATA_BYTES = 256 << 10
_METADATA_STEP = 4 << 10
_SHORT, _LONG = 1, 5  # tags of entries with dims of 32 and of 64 bits
_TAGGED = 2  # feature flag: entries have tags
_CRC32, _SHA256 = 0, 1
_TERMINATOR = bytes(8)

# Types that numpy has; all others are opaque.
_NUMPY_TYPES = {
    "torch.bool": "|b1",
    "torch.int8": "|i1",
    "torch.uint8": "|u1",
    "torch.int16": "<i2",
    "torch.uint16": "<u2",
    "torch.int32": "<i4",
    "torch.uint32": "<u4",
    "torch.int64": "<i8",
    "torch.uint64": "<u8",
    "torch.float16": "<f2",
    "torch.float32": "<f4",
    "torch.float64": "<f8",
    "torch.complex64": "<c8",
    "torch.complex128": "<c16",
}


class _Record(NamedTuple):
    """A tensor and its header, all but the hashes and where it lies."""

    entry: Entry
    described: bytes
    """Type and shape, as an entry and a header have them."""
    name: bytes
    """With its length before it."""
    is_long: bool
    version: int
    data_bytes: int

    def header(self, crc32: int = 0, sha256: bytes = bytes(32)) -> bytes:
        """With zeros for hashes: what the hashes cover before the tensor's bytes."""
        hashes = struct.pack("<BBBIBB", 2, _CRC32, 4, crc32, _SHA256, 32) + sha256
        body = struct.pack("<HB", min(self.entry.module, 0xFFFF), self.entry.kind) + self.name + self.described
        body += struct.pack("<H", len(hashes)) + hashes + struct.pack("<q", self.data_bytes)
        return struct.pack("<Q", 8 + len(body)) + body

    def metadata(self, header_offset: int, header_bytes: int, is_tagged: bool) -> bytes:
        tag = struct.pack("<I", _LONG if self.is_long else _SHORT) if is_tagged else b""
        place = struct.pack("<QQQ", header_offset, header_offset + header_bytes, self.data_bytes)
        return tag + self.name + bytes([self.entry.kind]) + self.described + place


class Plan(NamedTuple):
    """A file before it is written. The tensors must not change until then."""

    head: bytes
    """Preamble and metadata region."""
    records: list[_Record]

    @property
    def entries(self) -> list[Entry]:
        """In the order of the file."""
        return [record.entry for record in self.records]

    def write(self, file: BinaryIO) -> None:
        """Writes it into an empty file that can seek."""
        file.write(self.head)
        for record in self.records:
            header = record.header()
            begin = file.tell()
            file.write(header)
            crc32, sha256 = zlib.crc32(header), hashlib.sha256(header)
            for block in _blocks.blocks(record.entry.tensor):
                crc32 = zlib.crc32(block, crc32)
                sha256.update(block)
                file.write(block)
            end = file.tell()
            file.seek(begin)
            file.write(record.header(crc32, sha256.digest()))
            file.seek(end)
        file.write(_TERMINATOR)


def plan(entries: list[Entry], metadata_bytes: int = _METADATA_BYTES) -> Plan:
    """Where everything lies, in the lowest version that can say it.

    Args:
        entries: The tensors, in the order of the file.
        metadata_bytes: Size of the metadata region; it becomes larger if the entries need more.

    Raises:
        Error: What the format can't hold (InvalidRequestError).
    """
    records = [_record(entry) for entry in entries]
    version = max((record.version for record in records), default=1)
    is_tagged = version == 5
    needed = sum(len(record.metadata(0, 0, is_tagged)) for record in records)
    if needed > metadata_bytes:
        metadata_bytes = -(-needed // _METADATA_STEP) * _METADATA_STEP
    offset = _PREAMBLE.size + metadata_bytes
    index = bytearray()
    for record in records:
        header_bytes = len(record.header())
        index += record.metadata(offset, header_bytes, is_tagged)
        offset += header_bytes + record.data_bytes
    flags = (_TAGGED if is_tagged else 0).to_bytes(32, "little")
    total = sum(record.data_bytes for record in records)
    preamble = _PREAMBLE.pack(_MAGIC, version, flags, total, len(records), metadata_bytes)
    return Plan(preamble + index.ljust(metadata_bytes, b"\0"), records)


def type_name(tensor: torch.Tensor) -> tuple[bytes, bool]:
    """The tensor's type as the format spells it, and whether it is opaque."""
    name = str(tensor.dtype)
    plain = _NUMPY_TYPES.get(name)
    if plain is not None:
        return plain.encode(), False
    width = tensor.element_size()
    return f"{'<' if width > 1 else '|'}V{width}\0{name}".encode(), True


def _record(entry: Entry) -> _Record:
    tensor = entry.tensor
    try:
        name = entry.name.encode()
    except UnicodeEncodeError as failure:
        raise _unwritable(f"the name {entry.name!r:.80} is not Unicode") from failure
    if len(name) > 0xFFFF:
        raise _unwritable(f"the name {entry.name:.80}… has {len(name)} bytes, and 65535 is the most")
    spelled, is_opaque = type_name(tensor)
    is_long = any(extent > 0xFFFFFFFF for extent in tensor.shape)
    version = 5 if is_long else 4 if tensor.is_meta else 2 if is_opaque else 1
    described = bytes([len(spelled)]) + spelled
    described += struct.pack(f"<B{len(tensor.shape)}{'Q' if is_long else 'I'}", len(tensor.shape), *tensor.shape)
    data_bytes = 0 if tensor.is_meta else _blocks.size(tensor)
    return _Record(entry, described, struct.pack("<H", len(name)) + name, is_long, version, data_bytes)


def _unwritable(what: str) -> Exception:
    return error("UNSUPPORTED", what, hint="rename that tensor")
