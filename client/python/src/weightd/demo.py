"""One copy for all: a first look at weightd, in one command.

    python -m weightd.demo [MODEL]

Attaches to a model (a URI, a path or an alias; default: one that is made for it) from several processes and shows what
each waited and what memory they took together. Starts no daemon: it says how to, if none answers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import weightd
from weightd._attach import uri_here

PROCESSES = 4
_MADE_BYTES = 256 << 20


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m weightd.demo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", nargs="?", help="URI, path or alias (default: 256 MiB are made for this)")
    parser.add_argument("--socket-dir", help="the daemon's folder (default: WEIGHTD_DIR, else /run/weightd)")
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        if given.look:
            print(json.dumps(_look(given.model, given.socket_dir)), flush=True)
            sys.stdin.read()  # keeps the lease until the others have looked
            return 0
        with _model(given.model) as name:
            return _show(name, given.socket_dir)
    except weightd.Error as failure:
        print(f"weightd.demo: {failure}", file=sys.stderr)
        return 1


def _show(name: str, socket_dir: str | None) -> int:
    print(f"Model: {name}")
    begin = time.perf_counter()
    with weightd.attach(name, socket_dir, framework="np") as model:
        waited = time.perf_counter() - begin
        nbytes = sum(info.nbytes for info in model.tensors.values())
        print(f"On the node after {waited:.3f} s: {len(model)} tensors, {nbytes / 1e6:.1f} MB, {model.revision[:12]}")
        command = [sys.executable, "-m", "weightd.demo", "--look", name]
        command += ["--socket-dir", socket_dir] if socket_dir else []
        with contextlib.ExitStack() as ends:
            lookers = [
                ends.enter_context(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                for _ in range(PROCESSES)
            ]
            lines = [looker.stdout.readline() if looker.stdout else "" for looker in lookers]
            if not all(lines):
                return 1  # it has said why
            own = 0
            for looker, line in zip(lookers, lines, strict=True):
                seen = json.loads(line)
                milliseconds = seen["seconds"] * 1e3
                print(f"Process {looker.pid}: attached in {milliseconds:.1f} ms; CRC-32 of every byte: {seen['crc32']}")
                own += _kib(looker.pid, "Private_Clean", "Private_Dirty") << 10
        copies = PROCESSES * nbytes
        print(f"Memory of the weights that is a process's own: {own / 1e6:.1f} MB; with copies: {copies / 1e6:.1f} MB")
    return 0


def _look(name: str, socket_dir: str | None) -> dict[str, object]:
    """One process: how long it waited, and a checksum of all bytes, which shows that they are there."""
    begin = time.perf_counter()
    model = weightd.attach(name, socket_dir, framework="np")
    seconds = time.perf_counter() - begin
    checksum = 0
    for tensor in model.tensors:
        checksum = zlib.crc32(model.raw(tensor), checksum)
    _held.append(model)
    return {"seconds": seconds, "crc32": f"{checksum:08x}"}


_held: list[weightd.Model] = []


def _kib(pid: int, *fields: str) -> int:
    """Of a process's segments of models, by the kernel's count."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if " " in name:  # a mapping's first line
            inside = "memfd:weightd" in line
        elif inside and name in fields:
            total += int(rest.split()[0])
    return total


@contextlib.contextmanager
def _model(given: str | None) -> Iterator[str]:
    if given is not None:
        yield uri_here(given)
        return
    with tempfile.TemporaryDirectory(prefix="weightd-demo-") as folder:
        path = Path(folder) / "model.safetensors"
        _write(path)
        yield path.as_uri()


def _write(path: Path) -> None:
    """64 tensors of even bytes, without any library."""
    count = 64
    each = _MADE_BYTES // count
    shape = [each // 4096, 1024]
    spans = {
        f"layers.{i}.weight": {"dtype": "F32", "shape": shape, "data_offsets": [i * each, (i + 1) * each]}
        for i in range(count)
    }
    header = json.dumps(spans).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for i in range(count):
            file.write(bytes([i]) * each)


if __name__ == "__main__":
    sys.exit(main())
