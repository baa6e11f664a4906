"""What became of a model's tensors when they were put into a module."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from weightd.errors import Error, error

_SHOWN = 5


class LoadReport(NamedTuple):
    """What a module got of a model.

    Attributes:
        loaded: How many of the model's names found their place.
        copied: Bytes of each tensor of the module, by its name there, that are not the shared ones: those of
            another type or layout in the model. Empty if nothing was copied.
        missing: Names that the module has and the model has not.
        unexpected: Names that the model has and the module has not.
    """

    loaded: int
    copied: Mapping[str, int]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def copied_bytes(self) -> int:
        """Memory of this process's own that the copies take."""
        return sum(self.copied.values())


def some(names: Collection[str]) -> str:
    """The first few, and how many more there are."""
    shown = ", ".join(repr(name) for name in sorted(names)[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def require_none(names: Collection[str], what: str, model: str, hint: str) -> None:
    """Raises InvalidRequestError if there are any."""
    if names:
        raise unfit(f"{what}: {some(names)}", model, hint)


def unfit(message: str, model: str, hint: str) -> Error:
    """Module and model don't fit."""
    return error("INVALID_ARGUMENT", message, model=model, hint=hint)
