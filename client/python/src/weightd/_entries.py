"""What of a module or a state dict goes into a file, under which name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from weightd import _blocks, _frameworks, _names
from weightd.errors import error

if TYPE_CHECKING:
    import torch


class Kind(IntEnum):
    """What a tensor is, by the numbers of tensorizer files."""

    PARAMETER = 0
    BUFFER = 1
    STATE_DICT = 2


class Entry(NamedTuple):
    """A tensor that goes into a file."""

    name: str
    """As the file has it: for nested state dicts in tensorizer files a path, see `_names`."""
    tensor: torch.Tensor
    kind: Kind = Kind.STATE_DICT
    module: int = 0
    """Which of the module's modules it belongs to, counted from the root's 0."""


def flat(source: Any) -> list[Entry]:
    """The tensors of a module's state dict, or of a state dict that is not nested, by name.

    Raises InvalidRequestError, with the key, for what is no tensor.
    """
    torch = _frameworks.require_torch("writing models")
    state = source.state_dict() if isinstance(source, torch.nn.Module) else source
    if not isinstance(state, Mapping):
        raise _unwritable(f"a {type(source).__name__}", "give a module, or a dict of tensors")
    for key, value in state.items():
        if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str | bytes)):
            hint = "safetensors has no nested state dicts: give the inner one, or write a .tensors file"
            raise _unwritable(f"the {type(value).__name__} {key!r}", hint)
    return _checked(list(_walk(state, ())))


def nested(source: Any) -> list[Entry]:
    """As tensorizer takes them: a module's parameters and buffers (all of them), or a state dict, nested or not."""
    torch = _frameworks.require_torch("writing models")
    if isinstance(source, torch.nn.Module):
        return _checked(list(_of_module(source)))
    if not isinstance(source, Mapping) and not _is_list(source):
        raise _unwritable(f"a {type(source).__name__}", "give a module, or dicts and lists of tensors")
    return _checked(list(_walk(source, ())))


def without_aliases(entries: list[Entry], metadata: Mapping[str, str]) -> tuple[list[Entry], dict[str, str]]:
    """Separates tensors from further names of them: what is to be stored, and alias -> the name that is kept.

    An alias is the same view of the same memory; a view that differs (a slice, a transpose) is not, since its name
    could not tell how. The first in order of name is kept, as by safetensors' save_model. A name of which the metadata
    says something else is stored by itself.
    """
    groups: dict[object, list[str]] = {}
    for name, tensor, *_ in entries:
        if tensor.numel() and not tensor.is_meta and name != _names.NO_ALIAS:
            view = (tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg())
            groups.setdefault((tensor.device, tensor.data_ptr(), view), []).append(name)
    aliases = {}
    for names in groups.values():
        kept, *others = sorted(names)
        aliases.update({other: kept for other in others if metadata.get(other, kept) == kept})
    return [entry for entry in entries if entry.name not in aliases], aliases


def _of_module(module: torch.nn.Module) -> Iterator[Entry]:
    """By tensorizer's names: one of the root begins with a dot. A module that is there twice comes once."""
    for number, (path, part) in enumerate(module.named_modules()):
        for name, parameter in part.named_parameters(recurse=False):
            yield Entry(f"{path}.{name}", parameter, Kind.PARAMETER, number)
        for name, buffer in part.named_buffers(recurse=False):
            yield Entry(f"{path}.{name}", buffer, Kind.BUFFER, number)


def _walk(layer: Any, path: tuple[str | int, ...]) -> Iterator[Entry]:
    import torch

    items = layer.items() if isinstance(layer, Mapping) else enumerate(layer)
    for key, value in items:
        inner = (*path, key)
        if isinstance(layer, Mapping) and not isinstance(key, str):
            raise _unwritable(f"the key {key!r} of {_shown(path)}", "give dicts with keys of type str")
        if isinstance(value, torch.Tensor):
            yield Entry(_name(inner), value)
        elif isinstance(value, Mapping) or _is_list(value):
            yield from _walk(value, inner)
        else:
            raise _unwritable(f"{_shown(inner)}, a {type(value).__name__},", "leave out what is no tensor")


def _name(path: tuple[str | int, ...]) -> str:
    if len(path) == 1 and isinstance(path[0], str):
        if path[0].startswith(_names.PATH):
            raise _unwritable(f"the name {path[0]!r}", "rename it: it would be read as a path")
        return path[0]
    return _names.PATH + json.dumps(path, separators=(",", ":"))


def _checked(entries: list[Entry]) -> list[Entry]:
    for name, tensor, *_ in entries:
        if not name:
            raise _unwritable("a tensor with an empty name", "name it")
        _blocks.check(name, tensor)
    return entries


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _shown(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the state dict"


def _unwritable(what: str, hint: str) -> Exception:
    return error("INVALID_ARGUMENT", f"{what} can't be written", hint=hint)
