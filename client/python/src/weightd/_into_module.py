"""Puts tensors into a module without copying them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from weightd.errors import error

if TYPE_CHECKING:
    import torch


def load(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], required: Callable[[Any], object] | None, model: str
) -> int:
    """Makes `tensors` the module's parameters and buffers, and returns how many had a place there.

    Args:
        module: Is changed.
        tensors: By the names that the module's state dict has; also those of non-persistent buffers.
        required: Given a name of the module's state dict, says whether it is an error if that is missing; then a
            tensor without a place is one too. None: neither is.
        model: For messages.
    """
    slots = _slots(module)
    ties = _ties(slots)
    persistent = module.state_dict(keep_vars=True).keys()
    # Also what has no slot: hooks of the module may know it by another name.
    given = {name: tensor for name, tensor in tensors.items() if name not in slots}
    hidden: dict[str, torch.Tensor] = {}
    for names in ties:
        found = next((tensors[name] for name in names if name in tensors), None)
        if found is None:
            continue
        placed = _beside(found, slots[names[0]])
        for name in names:
            (given if name in persistent else hidden)[name] = placed
    try:
        outcome = module.load_state_dict(given, strict=False, assign=True)
    except RuntimeError as failure:  # sizes differ
        raise _unfit(str(failure), model) from failure
    for name, tensor in hidden.items():
        if tensor.shape != slots[name].shape:
            sizes = f"{list(tensor.shape)} in the model and {list(slots[name].shape)} in the module"
            raise _unfit(f"buffer {name!r} has shape {sizes}", model)
        _put(module, name, tensor)
    loaded = _slots(module)
    for first, *others in ties:
        for name in others:
            _put(module, name, loaded[first])
    if required is not None:
        missing = [name for name in outcome.missing_keys if required(name)]
        _require_none(missing, "the module has, and the model has not", model)
        _require_none(outcome.unexpected_keys, "the model has, and the module has not", model)
    return len(tensors) - len(outcome.unexpected_keys)


def _slots(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's parameters and buffers under all of their names."""
    everything = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    return dict(everything)


def _ties(slots: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of each tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in slots.items():
        groups.setdefault(id(tensor), []).append(name)
    return list(groups.values())


def _beside(tensor: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """On the device that the module's tensor is on, if it is on one."""
    return tensor if slot.device.type in ("cpu", "meta") else tensor.to(slot.device)


def _put(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, tensor)


def _require_none(names: list[str], what: str, model: str) -> None:
    if names:
        shown = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise _unfit(f"{what}: {shown}", model)


def _unfit(message: str, model: str) -> Exception:
    hint = "is it the right module? strict=False loads what fits, filter_func chooses"
    return error("INVALID_ARGUMENT", message, model=model, hint=hint)
