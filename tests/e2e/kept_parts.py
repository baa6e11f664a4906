"""What a daemon leaves with its keeper, written down, changed, and put there again as another daemon would have.

kept_parts.py KEEPER_DIR > FILE   writes down the one model that a keeper holds
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import pathlib
import struct
import sys
import typing
import zlib

from keepers import Keeper

PAGE = 4096
# The beginning of a card's first page (daemon/cache/card.cc): magic, version, unused, bytes and SHA-256 of its body.
HEAD = struct.Struct("<8sIIQ32s")
# Behind it: which grant of its URI is the newest; 0: none is.
RANK = struct.Struct("<Q")
# Fields of ModelCard (proto/weightd/v1/model_card.proto) that name memory, by its part.
MEMORY = {"weights": 14, "index": 15, "files": 16}
INDEX_SHA256 = 17
LENGTH_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

# Of one model: the content of each of its memfds.
Parts = dict[str, bytes]


def number(value: int) -> bytes:
    """A varint."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


class Field(typing.NamedTuple):
    """Of a message: a number, or bytes."""

    number: int
    value: int
    content: bytes
    encoded: bytes


def fields(message: bytes) -> typing.Iterator[Field]:
    """In their order."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at, shift = message[at], at + 1, shift + 7
            value |= (byte & 0x7F) << (shift - 7)
            if byte < 0x80:
                return value

    while at < len(message):
        begin = at
        key = varint()
        value = varint()
        assert key & 7 in (0, 2)
        content = message[at : at + value] if key & 7 == 2 else b""
        at += len(content)
        yield Field(key >> 3, value, content, message[begin:at])


def with_field(message: bytes, field: int, content: bytes) -> bytes:
    """The message with this, of bytes or a message, in the place of what it has of that number."""
    rest = b"".join(other.encoded for other in fields(message) if other.number != field)
    return rest + number(field << 3 | 2) + number(len(content)) + content


def body(card: bytes) -> bytes:
    """The encoded ModelCard."""
    return card[PAGE : PAGE + HEAD.unpack_from(card)[3]]


def rank(card: bytes) -> int:
    """0 unless the model is, or was, the one that is granted."""
    return int(RANK.unpack_from(card, HEAD.size)[0])


def with_body(card: bytes, text: bytes, version: int = 1) -> bytes:
    """The card with another body, as whole as the first was."""
    magic, _, unused, _, _ = HEAD.unpack_from(card)
    head = HEAD.pack(magic, version, unused, len(text), hashlib.sha256(text).digest())
    whole = head + card[HEAD.size : PAGE] + text
    return whole + bytes(-len(whole) % PAGE)


def with_memory(card: bytes, part: str, fd: int, nbytes: int) -> bytes:
    """The card with that memfd as its model's."""
    found = os.stat(fd)
    memory = b"\x08" + number(found.st_dev) + b"\x10" + number(found.st_ino) + b"\x18" + number(nbytes)
    return with_body(card, with_field(body(card), MEMORY[part], memory))


def with_index_digest(card: bytes, index: bytes) -> bytes:
    """The card with that of another index."""
    return with_body(card, with_field(body(card), INDEX_SHA256, hashlib.sha256(index).digest()))


def bytes_of(card: bytes, part: str) -> int:
    """How many of a part the card counts."""
    (memory,) = [field.content for field in fields(body(card)) if field.number == MEMORY[part]]
    return next(field.value for field in fields(memory) if field.number == 3)


def memfd(content: bytes, seals: int = LENGTH_SEALS | fcntl.F_SEAL_WRITE, access: int = os.O_RDONLY) -> int:
    """A memfd with these bytes, sealed and opened as a daemon leaves one."""
    made = os.memfd_create("weightd-test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.write(made, content)
        if seals:
            fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
        return os.open(f"/proc/self/fd/{made}", access | os.O_CLOEXEC)
    finally:
        os.close(made)


def store(keeper: Keeper, name: str, fd: int) -> None:
    """Gives it to the keeper alone."""
    keeper.store(name, fd)
    os.close(fd)


def put(keeper: Keeper, parts: Parts, place: str = "0" * 32, version: int = 1) -> None:
    """Stores a model, whose card, of that version, names the memfds that are made here."""
    card = parts["card"]
    for part in parts.keys() & MEMORY.keys():
        fd = memfd(parts[part])
        card = with_memory(card, part, fd, bytes_of(card, part))
        store(keeper, f"host.{place}.{part}", fd)
    card = with_body(card, body(card), version)
    store(keeper, f"host.{place}.card", memfd(card, LENGTH_SEALS, os.O_RDWR))


def content(fd: int) -> bytes:
    """Of a memfd."""
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
        return bytes(memory)


def taken(keeper: Keeper) -> Parts:
    """The one model that a keeper holds."""
    with contextlib.ExitStack() as stack:
        parts = {}
        for name, fd in keeper.take():
            stack.callback(os.close, fd)
            parts[name.rpartition(".")[2]] = content(fd)
        return parts


def write(parts: Parts) -> str:
    """As JSON."""
    return json.dumps({part: base64.b64encode(zlib.compress(text, 9)).decode() for part, text in parts.items()})


def read(path: pathlib.Path) -> Parts:
    """What was written."""
    return {part: zlib.decompress(base64.b64decode(text)) for part, text in json.loads(path.read_text()).items()}


if __name__ == "__main__":
    print(write(taken(Keeper(pathlib.Path(sys.argv[1])))))
