"""Reads what torch.save wrote, without running any code that it may hold."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weightd import _frameworks
from weightd.errors import Error, error

_ZIP = b"PK\x03\x04"


def load(path: Path) -> Any:
    """What the file holds; its tensors are maps of the file, which must not change while they live.

    Only torch's weights_only unpickler ever sees the file. It makes tensors and plain containers, and refuses others.

    Raises:
        Error: No such file, one that can't be read, one that is not of torch's zip format, damaged ones, and those
            that hold other objects than weights_only knows.
    """
    torch = _frameworks.require_torch("converting models")
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
    except OSError as failure:
        raise _unreadable(path, failure) from failure
    if not is_zip:
        hint = "was it written before torch 1.6? Where you trust it, load it and torch.save it again"
        raise error("MALFORMED_MODEL", "it is not a zip file, as torch.save writes", model=str(path), hint=hint)
    try:
        return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as failure:
        raise _refused(path, failure) from failure
    except Exception as failure:  # of damaged files: whatever
        reason = str(failure).splitlines()[:1] or [type(failure).__name__]
        raise error("MALFORMED_MODEL", f"torch can't load it: {reason[0]}", model=str(path)) from failure


def chosen(content: Any, key: str | None, path: Path) -> Any:
    """The state dict: what the file holds, or what it has under `key`."""
    if key is None:
        return content
    if not isinstance(content, Mapping) or key not in content:
        keys = ", ".join(repr(name) for name in list(content)[:10]) if isinstance(content, Mapping) else "no keys"
        raise error("INVALID_ARGUMENT", f"it has no key {key!r}", model=str(path), hint=f"it has {keys}")
    return content[key]


def without_others(state: Any) -> tuple[Any, list[str]]:
    """The state dict without what is no tensor, and what that was, such as "['epoch']"."""
    others: list[str] = []
    try:
        return _kept(state, "", others), others
    except RecursionError as failure:
        raise error("MALFORMED_MODEL", "it is nested too deep, or holds itself") from failure


def _kept(value: Any, where: str, others: list[str]) -> Any:
    """None if nothing is left."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        kept = {key: _kept(inner, f"{where}[{key!r}]", others) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner is not None} or None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        listed = [_kept(inner, f"{where}[{i}]", others) for i, inner in enumerate(value)]
        return [inner for inner in listed if inner is not None] or None
    others.append(where or "all of it")
    return None


def _refused(path: Path, failure: pickle.UnpicklingError) -> Error:
    # torch's own message advises to run the code.
    named = re.search(r"GLOBAL ([\w.]+)", str(failure))
    what = f" ({named[1]})" if named else ""
    hint = "only tensors in dicts and lists are converted: save model.state_dict() where you trust the file"
    message = f"it holds objects that only running its code could make{what}; nothing was run"
    return error("MALFORMED_MODEL", message, model=str(path), hint=hint)


def _unreadable(path: Path, failure: OSError) -> Error:
    reason = "SOURCE_UNAVAILABLE"
    if isinstance(failure, FileNotFoundError | NotADirectoryError):
        reason = "MODEL_NOT_FOUND"
    elif isinstance(failure, PermissionError):
        reason = "SOURCE_DENIED"
    elif isinstance(failure, IsADirectoryError):
        reason = "INVALID_ARGUMENT"
    return error(reason, failure.strerror or str(failure), model=str(path), hint="give a file that torch.save wrote")
