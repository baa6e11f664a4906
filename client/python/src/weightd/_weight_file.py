"""Plans of weight files of either format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weightd import _entries, _safetensors_file, _tensorizer_file
from weightd._destination import TENSORIZER
from weightd.errors import error

Plan = _safetensors_file.Plan | _tensorizer_file.Plan

# What transformers wants to see in a safetensors file.
METADATA = {"format": "pt"}


def plan(source: Any, kind: str, metadata: Mapping[str, str] | None = None) -> Plan:
    """What to write for a module or state dict; `save_file` says how.

    Args:
        source: The module or state dict.
        kind: SAFETENSORS or TENSORIZER.
        metadata: METADATA if None; tensorizer files have no place for any.

    Raises:
        Error: What can't be written (InvalidRequestError).
    """
    if kind == TENSORIZER:
        if metadata is not None:
            hint = "leave it out, or write a .safetensors file"
            raise error("UNSUPPORTED", "tensorizer files have no place for metadata", hint=hint)
        return _tensorizer_file.plan(_entries.nested(source))
    metadata = METADATA if metadata is None else metadata
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise error("INVALID_ARGUMENT", "metadata that is no text", hint="give a dict of str to str")
    entries, aliases = _entries.without_aliases(_entries.flat(source), metadata)
    return _safetensors_file.plan(entries, {**metadata, **aliases})
