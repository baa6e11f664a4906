"""Converts what torch.save wrote to safetensors or tensorizer: python -m weightd.convert IN OUT.

Never runs code that IN holds. Exit codes are weightctl's.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from weightd import _pytorch_file, _shards, _weight_file, _weightctl, _written
from weightd._destination import SAFETENSORS, TENSORIZER, destination, suffix
from weightd.errors import Error, error

_CODES = {
    64: ("INVALID_URI", "INVALID_ARGUMENT", "UNSUPPORTED"),
    65: ("MALFORMED_MODEL", "VERIFICATION_FAILED", "SOURCE_PROTOCOL"),
    66: ("MODEL_NOT_FOUND",),
    75: ("SOURCE_UNAVAILABLE", "SOURCE_CHANGED", "DEADLINE", "CANCELLED", "TOO_MANY_REQUESTS", "QUOTA_EXCEEDED"),
    77: ("NOT_ALLOWED", "SOURCE_DENIED", "ADDRESS_REFUSED"),
}
_EXIT_CODES = {reason: code for code, reasons in _CODES.items() for reason in reasons}
_BUG, _NOT_CREATED, _NOT_WRITTEN, _INTERRUPTED = 70, 73, 74, 130
# All others stop what was begun: a full disk, one that fails.
_NEVER_BEGUN = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
}
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    options = _parsed(arguments)
    try:
        _convert(options)
    except Error as failure:
        about = f"{failure.model}: " if failure.model else ""
        _say(f"{about}{failure}")
        return _EXIT_CODES.get(failure.reason, _BUG)
    except OSError as failure:
        _say(f"{options.target} can't be written: {failure}")
        return _NOT_CREATED if failure.errno in _NEVER_BEGUN else _NOT_WRITTEN
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _convert(options: argparse.Namespace) -> None:
    """Loads, plans, writes, reads again, and only then lets the target be seen."""
    source = Path(options.source)
    kind = "" if options.shard_bytes else suffix(options.target)
    state = _pytorch_file.chosen(_pytorch_file.load(source), options.key, source)
    try:
        tensors = _tensors(state, options.skip_others)
        shards = [] if kind else _shards.plan(tensors, options.shard_bytes)
        plans = [_weight_file.plan(tensors, kind)] if kind else [*shards]
    except Error as failure:
        failure.model = options.source
        failure.hint += _key_hint(state)
        raise
    with destination(options.target) as path:
        if kind:
            _written.write(path, plans[0])
        else:
            _shards.write(path, shards)
        binary = _weightctl.find()
        if binary is not None:
            _weightctl.inspect(binary, path)
    count = sum(len(plan.entries) for plan in plans)
    print(f"{options.target}: {count} tensors" + ("" if kind else f" in {len(shards)} files"))


def _tensors(state: Any, may_skip: bool) -> Any:
    """The state dict without what is no tensor, which is an error, or said to be left out."""
    tensors, others = _pytorch_file.without_others(state)
    if others and not may_skip:
        some = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        raise error("INVALID_ARGUMENT", f"what is no tensor: {some}", hint="--skip-others leaves it out")
    if not isinstance(tensors, dict | list):
        raise error("INVALID_ARGUMENT", "it has no tensors with names", hint="give a file with a state dict")
    for other in others:
        _say(f"left out {other}, which is no tensor")
    return tensors


def _key_hint(state: Any) -> str:
    """Which keys may hold a state dict."""
    inner = [key for key, value in state.items() if isinstance(value, dict)] if isinstance(state, dict) else []
    return "".join(f"; --key {key} converts what is below {key!r}" for key in inner[:3] if isinstance(key, str))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m weightd.convert", description=__doc__, allow_abbrev=False)
    parser.add_argument("source", metavar="IN", help="a .pt, .pth or .bin file of torch.save")
    parser.add_argument("target", metavar="OUT", help="*.safetensors or *.tensors, a path or an s3:// URI")
    parser.add_argument("--key", help="convert what the file holds under this key, such as state_dict")
    parser.add_argument("--skip-others", action="store_true", help="leave out what is no tensor")
    parser.add_argument(
        "--shard-size",
        dest="shard_bytes",
        type=_bytes,
        metavar="SIZE",
        help="make OUT a folder of safetensors files of at most this size (5GB) and their index",
    )
    options = parser.parse_args(arguments)
    if options.shard_bytes and options.target.endswith((SAFETENSORS, TENSORIZER)):
        parser.error("with --shard-size OUT is a folder of safetensors files")
    return options


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?i?)B?", text)
    size = int(match[1]) * _UNITS.get(match[2], 0) if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give one like 5GB or 512MiB")
    return size


def _say(message: str) -> None:
    print(f"weightd.convert: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """With weightctl's exit code for usage."""

    def error(self, message: str) -> NoReturn:
        _say(f"{message}; --help says more")
        sys.exit(64)


if __name__ == "__main__":
    sys.exit(main())
