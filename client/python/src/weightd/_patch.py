"""Makes programs that know nothing of weightd take their safetensors files from it."""

from __future__ import annotations

import fnmatch
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

from weightd.errors import Error, error

_lock = threading.Lock()
_current: Patch | None = None


class Patch:
    """What `patch` did; `with` it, it is undone in the end."""

    def __init__(self, patterns: tuple[str, ...], fallback: bool, options: dict[str, Any]) -> None:
        self._patterns = patterns
        self._fallback = fallback
        self._options = options
        library: Any = importlib.import_module("safetensors")
        torch_part: Any = importlib.import_module("safetensors.torch")
        self._replaced = [
            (library.safe_open, self._safe_open(library.safe_open)),
            (torch_part.load_file, self._load_file(torch_part.load_file)),
        ]

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        unpatch()

    def covers(self, filename: object) -> bool:
        """Whether it is one of the configured files."""
        if not isinstance(filename, str | os.PathLike):
            return False
        name = os.fspath(filename)
        return isinstance(name, str) and any(fnmatch.fnmatchcase(os.path.abspath(name), p) for p in self._patterns)

    def put(self) -> None:
        """Replaces the library's objects in all modules."""
        _replace(self._replaced)

    def take_back(self) -> None:
        """Undoes `put`, also in modules that took ours since."""
        _replace([(ours, original) for original, ours in self._replaced])

    def _through(self, ours: Callable[[], Any], original: Callable[[], Any]) -> Any:
        try:
            return ours()
        except (Error, OSError) as failure:  # the drop-in says "not found" and "denied" as the library would
            if not self._fallback:
                raise
            warnings.warn(f"weightd: {failure}; reading the file itself", RuntimeWarning, stacklevel=4)
            return original()

    def _safe_open(self, original: Any) -> Any:
        ours, patch = _drop_in().safe_open, self

        # A class, as the original is: programs annotate with it.
        class safe_open:
            __doc__ = original.__doc__

            def __new__(cls, filename: Any, *args: Any, **kwargs: Any) -> Any:
                if not patch.covers(filename):
                    return original(filename, *args, **kwargs)
                return patch._through(
                    lambda: ours(filename, *args, **kwargs, **patch._options),
                    lambda: original(filename, *args, **kwargs),
                )

        return safe_open

    def _load_file(self, original: Any) -> Any:
        ours = _drop_in().load_file

        def load_file(filename: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.covers(filename):
                return original(filename, *args, **kwargs)
            return self._through(
                lambda: ours(filename, *args, **kwargs, **self._options),
                lambda: original(filename, *args, **kwargs),
            )

        load_file.__doc__ = original.__doc__
        return load_file


def patch(
    *paths: str | os.PathLike[str],
    fallback: bool = False,
    socket_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> Patch:
    """Makes `safetensors.safe_open` and `safetensors.torch.load_file` of these files go through the daemon.

    In all modules of this process, also those that have imported them before (transformers does), under whatever name;
    what holds them elsewhere, as a class or a closure does, keeps the library's. Other files are the library's as
    before. Paths count as they are written: links are not followed. A second call takes the place of the first.
    Thread-safe, but what other threads open meanwhile may still go to the library.

    Args:
        paths: Folders (whatever lies below), files, or patterns with `*`, `?` and `[…]` (`*` also matches "/").
            Default: the environment variable WEIGHTD_PATCH_PATHS, separated by ":".
        fallback: What happens when the daemon isn't there, doesn't find the file or refuses: False raises what
            `weightd.safetensors.safe_open` does; True warns (RuntimeWarning) and reads the file with the library, at
            its speed and in memory of this process.
        socket_dir: As `weightd.attach` has it.
        timeout: Seconds for each file, as `weightd.attach` has it.

    Returns:
        What undoes it at the end of a `with` block; so does `unpatch`.

    Raises:
        InvalidRequestError: No path is given, or safetensors isn't installed.
    """
    global _current
    given = [os.fspath(path) for path in paths] or os.environ.get("WEIGHTD_PATCH_PATHS", "").split(":")
    patterns = tuple(pattern for path in given if path for pattern in _patterns(path))
    if not patterns:
        hint = 'patch("/models"), or set WEIGHTD_PATCH_PATHS'
        raise error("INVALID_ARGUMENT", "patch without a path", hint=hint)
    with _lock:
        if _current is not None:
            _current.take_back()
            _current = None
        try:
            made = Patch(patterns, fallback, {"socket_dir": socket_dir, "timeout": timeout})
        except ImportError as failure:
            hint = "pip install safetensors torch"
            raise error("UNSUPPORTED", f"patch needs safetensors and torch: {failure}", hint=hint) from failure
        made.put()
        _current = made
        return made


def unpatch() -> None:
    """Undoes `patch`; what is open stays so. Without a patch it does nothing."""
    global _current
    with _lock:
        if _current is not None:
            _current.take_back()
            _current = None


def _drop_in() -> Any:
    """Imports the library, which `import weightd` doesn't."""
    return importlib.import_module("weightd.safetensors")


def _patterns(path: str) -> tuple[str, ...]:
    whole = os.path.abspath(path)
    if any(character in path for character in "*?["):
        return (whole,)
    return (whole, os.path.join(whole, "*"))


def _replace(pairs: list[tuple[object, object]]) -> None:
    """Puts each pair's second object wherever a module has the first, which it may call as it likes."""
    by_identity = {id(old): new for old, new in pairs}
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in by_identity:
                setattr(module, name, by_identity[id(value)])
