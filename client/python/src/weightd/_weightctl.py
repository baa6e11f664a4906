"""Runs weightctl, which checks weight files and brings them to stores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from weightd.errors import Error, error


def find() -> str | None:
    """The environment variable WEIGHTCTL, else what is on the PATH, else None."""
    return os.environ.get("WEIGHTCTL") or shutil.which("weightctl")


def push(binary: str, path: Path, uri: str) -> None:
    """Uploads a weight file or folder. Raises the Error that weightctl names; its progress goes to stderr."""
    _run(binary, "push", str(path), uri)


def inspect(binary: str, path: Path) -> None:
    """Checks a weight file or folder as the daemon does before a load. Raises the Error that weightctl names."""
    _run(binary, "inspect", str(path))


def _run(binary: str, *arguments: str) -> None:
    command = [binary, *arguments, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as failure:
        hint = "let WEIGHTCTL name weightctl, or put it on the PATH"
        raise error("UNSUPPORTED", f"{binary} can't be run: {failure.strerror}", hint=hint) from failure
    if done.returncode:
        raise _failure(done, arguments[0], arguments[-1])


def _failure(done: subprocess.CompletedProcess[str], verb: str, target: str) -> Error:
    """The error object is one line; other lines may be progress."""
    for line in reversed((done.stderr + "\n" + done.stdout).splitlines()):
        detail = _detail(line)
        if detail is not None:
            return error(detail["reason"], detail["message"], model=target, hint=detail["hint"])
    end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
    return error("INTERNAL", f"weightctl {verb} ended with {end} and said: {said[0]}", model=target)


def _detail(line: str) -> dict[str, str] | None:
    try:
        detail = json.loads(line)["error"]
        return {key: str(detail[key]) for key in ("reason", "message", "hint")}
    except (ValueError, KeyError, TypeError):
        return None
