#!/usr/bin/env python3
"""Holds our safetensors reader against the `safetensors` package over mutants of small files.

    mutants.py VERDICTS [--count N] [--seed S]

VERDICTS is the binary of //tests/daemon/format:verdicts. Nothing may be accepted that the package
rejects, nothing rejected that it accepts but for the stricter rules that
daemon/format/safetensors.h lists; what both accept must be the same tensors over the same bytes. At
least a fifth of the mutants must be valid, or they would prove little. Exit code 0 if all of that
holds.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import safetensors

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

# What our reader says, on purpose, of files that the package accepts.
STRICTER = re.compile(r'(tensor|metadata key) \\?".*\\?" stands twice')


class Raw(str):
    """JSON text to be written as it stands, also where it is no JSON."""


class Pairs(list):
    """An object's members in order; keys may repeat."""


@dataclass
class File:
    """A file in parts, so that a mutation can break one of them and keep the others consistent."""

    members: Pairs
    data: bytes
    lead: bytes = b""
    trail: bytes = b""
    separators: tuple[str, str] = (",", ":")
    escape: float = 0.0
    length_delta: int = 0
    length: int | None = None
    edits: list[Callable[[bytearray], None]] = field(default_factory=list)

    def write(self, rng: random.Random) -> bytes:
        text = write_json(self.members, self.separators, self.escape, rng)
        header = self.lead + text.encode("utf-8", "surrogatepass") + self.trail
        length = len(header) + self.length_delta if self.length is None else self.length
        out = bytearray(struct.pack("<Q", length % 2**64) + header + self.data)
        for edit in self.edits:
            edit(out)
        return bytes(out)


def write_json(value: object, separators: tuple[str, str], escape: float, rng: random.Random) -> str:
    comma, colon = separators

    def text(value: object) -> str:
        if isinstance(value, Raw):
            return str(value)
        if isinstance(value, Pairs):
            return "{" + comma.join(text(k) + colon + text(v) for k, v in value) + "}"
        if isinstance(value, (list, tuple)):
            return "[" + comma.join(map(text, value)) + "]"
        if isinstance(value, str) and escape:
            out = (
                f"\\u{ord(c):04x}" if ord(c) < 0x10000 and rng.random() < escape else json.dumps(c)[1:-1] for c in value
            )
            return '"' + "".join(out) + '"'
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)

    return text(value)


def random_name(rng: random.Random) -> str:
    return rng.choice(
        [
            "",
            "w",
            "model.layers.%d.weight",
            "ä€😀",
            "a b",
            "__metadata",
            "dtype",
            '"\\/',
            "\t\0",
            "x" * 300,
        ]
    ).replace("%d", str(rng.randrange(100))) + rng.choice(["", "", str(rng.randrange(1000))])


def base_file(rng: random.Random) -> File:
    """A file that is valid in every respect."""
    names: list[str] = []
    while len(names) < rng.choice([0, 1, 1, 2, 3, 5, 8]):
        name = random_name(rng)
        if name not in names and name != "__metadata__":
            names.append(name)
    members, end = Pairs(), 0
    for name in names:
        dtype = rng.choice(list(BITS))
        shape = [rng.choice([0, 1, 1, 2, 3, 4, 5, 7, 8]) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 6]))]
        bits = BITS[dtype]
        for extent in shape:
            bits *= extent
        if bits % 8:
            shape, bits = [*shape, 4], bits * 4
        fields = Pairs([("dtype", dtype), ("shape", shape), ("data_offsets", [end, end + bits // 8])])
        end += bits // 8
        rng.shuffle(fields)
        members.append((name, fields))
    rng.shuffle(members)
    if rng.random() < 0.5:
        metadata = Pairs([("format", "pt"), (random_name(rng) + "k", random_name(rng))])
        members.insert(rng.randrange(len(members) + 1), ("__metadata__", metadata))
    file = File(members, rng.randbytes(end))
    if rng.random() < 0.7:
        file.trail = b" " * rng.randrange(9)
    return file


def tensors(file: File) -> list[Pairs]:
    return [value for key, value in file.members if key != "__metadata__" and isinstance(value, Pairs) and value]


def set_field(rng: random.Random, file: File, name: str, change: Callable[[object], object]) -> None:
    """Changes field `name` of one tensor, unless an earlier mutation made it something odd."""
    if found := tensors(file):
        tensor = rng.choice(found)
        plain = {"dtype": str, "shape": list, "data_offsets": list}[name]
        tensor[:] = [(k, change(v) if k == name and type(v) is plain else v) for k, v in tensor]


NUMBERS = [
    0, 1, 2, 3, 4, 8, 2**31, 2**32, 2**53, 2**61, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -1,
    *map(Raw, ["-0", "1.0", "1e0", "0.0", "1E2", "00", "01", "-1.5", "1e-1", "1e308", "1e309"]),
    *map(Raw, ["-1e400", "0e999", "1.", ".5", "+1", "-", "NaN", "0x1", "1_0", "1e", "1e+"]),
]  # fmt: skip
ODD_VALUES = [
    None, True, False, "", "1", "F32", [], Pairs(), [1], Pairs([("a", 1)]), *NUMBERS,
    *map(Raw, [r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\u0000"', r'"\x"', r'"\u12"']),
    *map(Raw, [r'"\ud800\u0041"', '"', "'a'", "tru", "nul", "True", '"\x01"', '"\x7f"']),
    *map(Raw, ['"\ud800"', r'"\/\b\f\n\r\t\"\\"', "1 2", ""]),
]  # fmt: skip


def odd_value(rng: random.Random) -> object:
    if rng.random() < 0.1:
        depth = rng.choice([1, 5, 120, 124, 125, 126, 127, 128, 400])
        opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
        return Raw(opening * depth + ("1" if opening != "[" else "") + closing * depth)
    return rng.choice(ODD_VALUES)


# Each takes a file and breaks, or only varies, one thing. Those of HARMLESS leave it valid.


def unknown_field(rng: random.Random, file: File) -> None:
    if found := tensors(file):
        tensor = rng.choice(found)
        tensor.insert(rng.randrange(len(tensor) + 1), (random_name(rng) + "u", odd_value(rng)))


def plain_unknown_fields(rng: random.Random, file: File) -> None:
    for tensor in tensors(file):
        for i in range(rng.randrange(3)):
            value = rng.choice([None, True, 1, -0.5, 10**25, "x", [1, [2]], Pairs([("a", 1), ("a", 2)])])
            tensor.append((rng.choice([f"u{i}", "u", "Dtype", "nbytes"]), value))


def white_space(rng: random.Random, file: File) -> None:
    def blank() -> str:
        return "".join(rng.choices(" \t\r\n", k=rng.randrange(3)))

    file.separators = (blank() + "," + blank(), blank() + ":" + blank())
    file.lead, file.trail = blank().encode(), blank().encode()


def escapes(rng: random.Random, file: File) -> None:
    file.escape = rng.random()


def reorder(rng: random.Random, file: File) -> None:
    rng.shuffle(file.members)


def zero_size(rng: random.Random, file: File) -> None:
    ends = [0, *(dict(t)["data_offsets"][1] for t in tensors(file))]
    at = rng.choice(ends)
    shape = rng.choice([[0], [3, 0], [0, 2**40, 2**40]])
    file.members.append(
        (
            random_name(rng) + "zero",
            Pairs([("dtype", rng.choice(list(BITS))), ("shape", shape), ("data_offsets", [at, at])]),
        )
    )


def null_metadata(rng: random.Random, file: File) -> None:
    file.members[:] = [m for m in file.members if m[0] != "__metadata__"] + [("__metadata__", None)]


def reshape(rng: random.Random, file: File) -> None:
    set_field(rng, file, "shape", lambda shape: [*reversed(shape), *[1] * rng.randrange(5)])


def same_size_dtype(rng: random.Random, file: File) -> None:
    set_field(rng, file, "dtype", lambda d: rng.choice([x for x in BITS if BITS[x] == BITS[d]]))


def nothing(rng: random.Random, file: File) -> None:
    pass


def dtype(rng: random.Random, file: File) -> None:
    others = [*BITS, "f32", "F33", "F32 ", "", "C128", "I4", "F8", "BOOLEAN"]
    set_field(rng, file, "dtype", lambda _: odd_value(rng) if rng.random() < 0.3 else rng.choice(others))


def shape_value(rng: random.Random, file: File) -> None:
    def change(shape: list[object]) -> object:
        choice = rng.randrange(5)
        if choice == 0:
            return odd_value(rng)
        if choice == 1 or not shape:
            return [*shape, odd_value(rng)]
        if choice == 2:
            return shape[:-1]
        at = rng.randrange(len(shape))
        return [*shape[:at], rng.choice(NUMBERS), *shape[at + 1 :]]

    set_field(rng, file, "shape", change)


def offsets(rng: random.Random, file: File) -> None:
    def change(pair: list[int]) -> object:
        choice = rng.randrange(7)
        if choice == 0:
            return odd_value(rng)
        if choice == 1:
            return pair[::-1]
        if choice == 2:
            return [*pair, odd_value(rng)]
        if choice == 3 or not all(type(p) is int for p in pair) or len(pair) != 2:
            return pair[:1]
        if choice == 4:
            delta = rng.choice([-8, -1, 1, 8])
            return [pair[0] + delta, pair[1] + delta]
        at = rng.randrange(2)
        new = rng.choice(NUMBERS) if choice == 5 else pair[at] + rng.choice([-4, -1, 1, 4])
        return [new if i == at else p for i, p in enumerate(pair)]

    set_field(rng, file, "data_offsets", change)


def drop_field(rng: random.Random, file: File) -> None:
    if found := tensors(file):
        tensor = rng.choice(found)
        del tensor[rng.randrange(len(tensor))]


def repeat_field(rng: random.Random, file: File) -> None:
    if found := tensors(file):
        tensor = rng.choice(found)
        tensor.insert(rng.randrange(len(tensor) + 1), rng.choice(tensor))


def repeat_member(rng: random.Random, file: File) -> None:
    if file.members:
        file.members.insert(rng.randrange(len(file.members) + 1), rng.choice(file.members))


def drop_member(rng: random.Random, file: File) -> None:
    if file.members:
        del file.members[rng.randrange(len(file.members))]


def odd_member(rng: random.Random, file: File) -> None:
    file.members.append((random_name(rng), odd_value(rng)))


def odd_key(rng: random.Random, file: File) -> None:
    target = rng.choice([file.members, *tensors(file)])
    if target:
        at = rng.randrange(len(target))
        target[at] = (odd_value(rng), target[at][1])


def metadata(rng: random.Random, file: File) -> None:
    value = rng.choice([odd_value(rng), Pairs([("a", odd_value(rng))]), Pairs([("a", "b"), ("a", "c")])])
    file.members.append(("__metadata__", value))


def resize_data(rng: random.Random, file: File) -> None:
    file.data = (
        file.data[: -rng.randrange(1, 9)] if rng.random() < 0.5 else file.data + rng.randbytes(rng.randrange(1, 9))
    )


def header_length(rng: random.Random, file: File) -> None:
    if rng.random() < 0.6:
        file.length_delta = rng.choice([-9, -2, -1, 1, 2, 8, len(file.data)])
    else:
        file.length = rng.choice([0, 1, 7, 8, 10**8, 10**8 + 1, 2**32, 2**63, 2**64 - 9, 2**64 - 8, 2**64 - 1])


def surroundings(rng: random.Random, file: File) -> None:
    odd = [
        b"\0",
        b"\xef\xbb\xbf",
        b"x",
        b"{}",
        b",",
        b"\f",
        b"\v",
        b"\xc2\xa0",
        b"\xff",
        b"//",
        b" \0",
        b"[",
        b"]",
    ]
    if rng.random() < 0.5:
        file.lead = rng.choice(odd)
    else:
        file.trail = rng.choice(odd)


def truncate(rng: random.Random, file: File) -> None:
    def cut(out: bytearray) -> None:
        del out[rng.randrange(len(out) + 1) :]

    file.edits.append(cut)


def bytes_of_header(rng: random.Random, file: File) -> None:
    """Flipped, replaced, doubled and lost bytes; half of the time the length is kept right."""

    def edit(out: bytearray) -> None:
        end = min(len(out), 8 + int.from_bytes(out[:8], "little"))
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            if not out:
                return
            at = rng.randrange(8, end) if end > 8 and rng.random() < 0.95 else rng.randrange(len(out))
            kind = rng.randrange(4)
            if kind == 0:
                out[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                out[at] = rng.choice(b'{}[]:,"\\ 0129eE+-.nulltrue\x00\x1f\x7f\x80\xc0\xe0\xed\xf0\xf4\xff')
            elif kind == 2:
                out.insert(at, rng.choice(b'{}[]:,"\\ 019e-.\t\n'))
                end += 1
            elif len(out) > 9:
                del out[at]
                end -= 1
        if rng.random() < 0.5:
            out[:8] = struct.pack("<Q", max(end - 8, 0))

    file.edits.append(edit)


HARMLESS = [
    nothing, plain_unknown_fields, white_space, escapes, reorder, zero_size, null_metadata, reshape,
    same_size_dtype,
]  # fmt: skip
HARMFUL = [
    unknown_field, dtype, shape_value, offsets, drop_field, repeat_field, repeat_member,
    drop_member, odd_member, odd_key, metadata, resize_data, header_length, surroundings, truncate,
    bytes_of_header, bytes_of_header, bytes_of_header,
]  # fmt: skip


def mutant(rng: random.Random) -> bytes:
    file = base_file(rng)
    for mutation in rng.choices(HARMLESS, k=rng.choice([0, 1, 2])):
        mutation(rng, file)
    if rng.random() < 0.75:
        for mutation in rng.choices(HARMFUL, k=rng.choice([1, 1, 1, 2])):
            mutation(rng, file)
    return file.write(rng)


def reference(file: bytes) -> list[tuple[str, dict]] | str:
    """What the package finds in the file, or why it rejects it."""
    try:
        return safetensors.deserialize(file)
    except safetensors.SafetensorError as error:
        return str(error)


def ours(verdict: str) -> list[tuple[str, str, list[int], int, int]]:
    found = []
    for tensor in verdict.split("\t")[1:]:
        name, dtype, shape, begin, end = tensor.split(":")
        extents = [int(extent) for extent in shape.split(",") if extent]
        found.append((bytes.fromhex(name).decode(), dtype, extents, int(begin), int(end)))
    return found


def disagreement(file: bytes, theirs: list[tuple[str, dict]] | str, verdict: str) -> str | None:
    if not verdict.startswith("accept"):
        return None if isinstance(theirs, str) or STRICTER.search(verdict) else f"rejected: {verdict}"
    if isinstance(theirs, str):
        return f"accepted; the package says: {theirs}"
    mine = sorted((name, dtype, shape, file[begin:end]) for name, dtype, shape, begin, end in ours(verdict))
    other = sorted((name, info["dtype"], list(info["shape"]), bytes(info["data"])) for name, info in theirs)
    return None if mine == other else f"different tensors: {mine} and {other}"


def verdicts(binary: str, files: list[bytes]) -> Iterator[str]:
    packed = b"".join(struct.pack("<I", len(file)) + file for file in files)
    done = subprocess.run([binary], input=packed, capture_output=True, timeout=300, check=True)
    lines = done.stdout.decode().splitlines()
    if len(lines) != len(files):
        raise SystemExit(f"{len(lines)} verdicts for {len(files)} files")
    return iter(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verdicts", help="binary of //tests/daemon/format:verdicts")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    began = time.monotonic()
    rng = random.Random(options.seed)
    files = [mutant(rng) for _ in range(options.count)]
    failures, valid, stricter = 0, 0, 0
    reasons: collections.Counter[str] = collections.Counter()
    for file, verdict in zip(files, verdicts(options.verdicts, files), strict=True):
        theirs = reference(file)
        valid += not isinstance(theirs, str)
        stricter += not isinstance(theirs, str) and verdict.startswith("reject")
        if isinstance(theirs, str):
            reasons[theirs.split(":")[1].strip() if ":" in theirs else theirs] += 1
        if problem := disagreement(file, theirs, verdict):
            failures += 1
            if failures <= 20:
                print(f"{problem}\n  file: {file!r}", file=sys.stderr)
    seconds = time.monotonic() - began
    print(
        f"{options.count} mutants, seed {options.seed}: {valid} valid for the package, "
        f"{stricter} of them refused by stricter rules, {failures} disagreements, {seconds:.1f} s"
    )
    for reason, count in reasons.most_common(8):
        print(f"  {count:6} {reason}")
    if valid * 5 < options.count:
        print("too few valid mutants to mean anything", file=sys.stderr)
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
