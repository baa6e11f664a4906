"""Names of tensors in tensorizer files: paths of nested state dicts, and those of a module itself."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from weightd.errors import error

# Before a JSON array of strings (keys) and integers (positions).
PATH = "\x1e"
# A key of metadata that never is an alias: its usual value is "pt".
NO_ALIAS = "format"


def kept_name(alias: str, metadata: Mapping[str, str], names: Container[str]) -> str | None:
    """The tensor that has `alias` as another name, as safetensors' save_model keeps it in the metadata; else None.

    Only a key that is no tensor's name, and whose value is one, is an alias.
    """
    kept = metadata.get(alias) if alias != NO_ALIAS and alias not in names else None
    return kept if kept in names else None


def aliases(metadata: Mapping[str, str], names: Container[str]) -> dict[str, str]:
    """All of them: alias -> name."""
    found = {key: kept_name(key, metadata, names) for key in metadata}
    return {key: kept for key, kept in found.items() if kept is not None}


def is_nested(names: Iterable[str]) -> bool:
    """Whether they are of a nested state dict."""
    return any(name.startswith(PATH) for name in names)


def path(name: str) -> str | tuple[str | int, ...]:
    """The keys and positions that lead to a tensor of a nested state dict; a plain name as it is."""
    return tuple(json.loads(name[1:])) if name.startswith(PATH) else name


def short(name: str, names: Container[str]) -> str:
    """What tensorizer calls ".weight", a tensor of the module itself, as "weight", unless another is called so."""
    stripped = name[1:]
    return stripped if name.startswith(".") and stripped and stripped not in names else name


def state_dict(tensors: dict[str, Any], model: str) -> Any:
    """`tensors` by the names that a state dict has.

    Nested again where names are paths (a list, if it was one); else those of a module itself are short.
    """
    starts = {name[:1] for name in tensors}
    if PATH in starts:
        return _nested(tensors, model)
    if "." in starts:
        return {short(name, tensors): tensor for name, tensor in tensors.items()}
    return tensors


def _nested(named: dict[str, Any], model: str) -> Any:
    root: dict[Any, Any] = {}
    for name, tensor in named.items():
        where = path(name)
        *outer, last = where if isinstance(where, tuple) else (where,)
        layer = root
        for key in outer:
            layer = layer.setdefault(key, {})
            if not isinstance(layer, dict):
                raise error("INTERNAL", f"tensor {name!r} lies inside another tensor", model=model)
        layer[last] = tensor
    return _listed(root)


def _listed(layer: dict[Any, Any]) -> Any:
    """The layer with its positions as lists."""
    items = {key: _listed(value) if isinstance(value, dict) else value for key, value in layer.items()}
    if all(isinstance(key, int) for key in items):
        return [items[key] for key in sorted(items)]
    return items
