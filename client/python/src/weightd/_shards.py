"""Models of several safetensors files, with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weightd import _blocks, _entries, _safetensors_file, _weight_file, _written
from weightd._destination import synced

_INDEX = "model.safetensors.index.json"


def plan(source: Any, shard_bytes: int) -> list[_safetensors_file.Plan]:
    """The files of a module or state dict, in its order.

    Each has at most `shard_bytes` of tensors, or one tensor that is larger. Aliases are in the metadata of the file
    that has the tensor.
    """
    entries, aliases = _entries.without_aliases(_entries.flat(source), _weight_file.METADATA)
    shards: list[list[_entries.Entry]] = []
    room = 0
    for entry in entries:
        size = _blocks.size(entry.tensor)
        if size > room or not shards:
            shards.append([])
            room = shard_bytes
        shards[-1].append(entry)
        room -= size
    return [_safetensors_file.plan(shard, {**_weight_file.METADATA, **_of(shard, aliases)}) for shard in shards]


def write(folder: Path, plans: list[_safetensors_file.Plan]) -> None:
    """Makes the folder with its files and index, and reads each file again. Raises as `_written.write`."""
    folder.mkdir()
    weight_map = {}
    for number, plan in enumerate(plans, 1):
        name = f"model-{number:05}-of-{len(plans):05}.safetensors"
        _written.write(folder / name, plan)
        weight_map.update({entry.name: name for entry in plan.entries})
    total = sum(_blocks.size(entry.tensor) for plan in plans for entry in plan.entries)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    with synced(folder / _INDEX) as output:
        output.write(json.dumps(index, indent=2).encode() + b"\n")


def _of(shard: list[_entries.Entry], aliases: Mapping[str, str]) -> dict[str, str]:
    names = {entry.name for entry in shard}
    return {alias: kept for alias, kept in aliases.items() if kept in names}
