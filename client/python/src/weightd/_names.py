"""Names of tensors in tensorizer files: paths of nested state dicts, and those of a module itself."""

from __future__ import annotations

import json
from typing import Any

from weightd.errors import error

# Before a JSON array of strings (keys) and integers (positions).
_PATH = "\x1e"


def state_dict(tensors: dict[str, Any], model: str) -> Any:
    """`tensors` by the names that a state dict has.

    Nested again where names are paths (a list, if it was one). What tensorizer calls ".weight", a tensor of the module
    itself, becomes "weight", unless another is called so.
    """
    starts = {name[:1] for name in tensors}
    if _PATH in starts:
        return _nested(tensors, model)
    if "." in starts:
        return {_short(name, tensors): tensor for name, tensor in tensors.items()}
    return tensors


def _short(name: str, names: dict[str, Any]) -> str:
    short = name[1:]
    return short if name.startswith(".") and short and short not in names else name


def _nested(named: dict[str, Any], model: str) -> Any:
    root: dict[Any, Any] = {}
    for name, tensor in named.items():
        path = json.loads(name[1:]) if name.startswith(_PATH) else [name]
        layer = root
        for key in path[:-1]:
            layer = layer.setdefault(key, {})
            if not isinstance(layer, dict):
                raise error("INTERNAL", f"tensor {name!r} lies inside another tensor", model=model)
        layer[path[-1]] = tensor
    return _listed(root)


def _listed(layer: dict[Any, Any]) -> Any:
    """The layer with its positions as lists."""
    items = {key: _listed(value) if isinstance(value, dict) else value for key, value in layer.items()}
    if all(isinstance(key, int) for key in items):
        return [items[key] for key in sorted(items)]
    return items
