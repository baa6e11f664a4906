"""Puts tensors into a module without copying them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from weightd._report import LoadReport, require_none, some, unfit

if TYPE_CHECKING:
    import torch

_HINT = "is it the right module? strict=False loads what fits, filter_func chooses"


def load(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    required: Callable[[Any], object] | None,
    model: str,
    *,
    dtypes: str = "take",
    hint: str = _HINT,
) -> LoadReport:
    """Makes `tensors` the module's parameters and buffers.

    Args:
        module: Is changed.
        tensors: By the names that the module's state dict has; also those of non-persistent buffers.
        required: Given a name of the module's state dict, says whether it is an error if that is missing; then a
            tensor without a place is one too. None: neither is.
        model: For messages.
        dtypes: What becomes of a tensor that has another type in the module: "take" gives the module the model's,
            "cast" copies it, "same" is an error.
        hint: What to do if names don't fit.
    """
    slots = named_tensors(module)
    ties = tied_names(slots)
    persistent = module.state_dict(keep_vars=True).keys()
    # Also what has no slot: hooks of the module may know it by another name.
    given = {name: tensor for name, tensor in tensors.items() if name not in slots}
    hidden: dict[str, torch.Tensor] = {}
    found = {names[0]: next((tensors[name] for name in names if name in tensors), None) for names in ties}
    if dtypes == "same":
        _require_same_dtypes(found, slots, model)
    copied: dict[str, int] = {}
    for names in ties:
        tensor = found[names[0]]
        if tensor is None:
            continue
        placed = _beside(tensor, slots[names[0]], cast=dtypes == "cast")
        if placed is not tensor:
            copied[names[0]] = placed.nbytes
        for name in names:
            (given if name in persistent else hidden)[name] = placed
    try:
        outcome = module.load_state_dict(given, strict=False, assign=True)
    except RuntimeError as failure:  # sizes differ
        raise unfit(str(failure), model, hint) from failure
    for name, tensor in hidden.items():
        if tensor.shape != slots[name].shape:
            sizes = f"{list(tensor.shape)} in the model and {list(slots[name].shape)} in the module"
            raise unfit(f"buffer {name!r} has shape {sizes}", model, hint)
        put(module, name, tensor)
    loaded = named_tensors(module)
    for first, *others in ties:
        for name in others:
            put(module, name, loaded[first])
    if required is not None:
        missing = [name for name in outcome.missing_keys if required(name)]
        require_none(missing, "the module has, and the model has not", model, hint)
        require_none(outcome.unexpected_keys, "the model has, and the module has not", model, hint)
    count = len(tensors) - len(outcome.unexpected_keys)
    return LoadReport(count, copied, tuple(outcome.missing_keys), tuple(outcome.unexpected_keys))


def assign(module: torch.nn.Module, placed: Iterable[tuple[list[str], torch.Tensor]]) -> bool:
    """Makes each tensor the module's parameter or persistent buffer of those names, which has its shape and type.

    Parameters want a gradient if they can have one. As `load_state_dict` would do it, which takes far longer; False,
    and nothing is changed, if a part of the module has a say in how it is loaded.
    """
    import torch

    parts = dict(module.named_modules(remove_duplicate=False))
    for part in parts.values():
        if (
            type(part)._load_from_state_dict is not torch.nn.Module._load_from_state_dict
            or part._load_state_dict_pre_hooks
            or part._load_state_dict_post_hooks
        ):
            return False
    for names, tensor in placed:
        parameter = None
        for name in names:
            owner, _, attribute = name.rpartition(".")
            part = parts[owner]
            if attribute in part._parameters:
                if parameter is None:
                    parameter = torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
                part._parameters[attribute] = parameter
            else:
                part._buffers[attribute] = tensor
    return True


def named_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's parameters and buffers under all of their names."""
    everything = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    return dict(everything)


def tied_names(slots: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of each tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in slots.items():
        groups.setdefault(id(tensor), []).append(name)
    return list(groups.values())


def put(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Makes it the parameter or buffer of that name."""
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, tensor)


def move_buffers(module: torch.nn.Module, device: str, model_has: Callable[[str], bool]) -> None:
    """To the device that the model's tensors are on: buffers that the model doesn't have, which are few and small."""
    for names in tied_names(dict(module.named_buffers(remove_duplicate=False))):
        if any(model_has(name) for name in names):
            continue
        buffer = module.get_buffer(names[0])
        if not buffer.is_meta:
            moved = buffer.to(device)
            for name in names:
                put(module, name, moved)


def require_none_on_meta(module: torch.nn.Module, model: str) -> None:
    """Raises if anything has no bytes yet: its first use would."""
    parameters = [name for name, tensor in module.named_parameters() if tensor.is_meta]
    hint = "give the model those tensors, or make these parameters outside of the meta device"
    require_none(parameters, "parameters that are still on meta", model, hint)
    buffers = [name for name, tensor in module.named_buffers() if tensor.is_meta]
    hint = "make the module under weightd.torch.parameters_on_meta(), which computes buffers"
    require_none(buffers, "buffers that the model doesn't have and that are still on meta", model, hint)


def _beside(tensor: torch.Tensor, slot: torch.Tensor, *, cast: bool) -> torch.Tensor:
    """On the device that the module's tensor is on, if it is on one, and of its type if that is wanted."""
    if cast and tensor.dtype != slot.dtype:
        tensor = tensor.to(slot.dtype)
    return tensor if slot.device.type in ("cpu", "meta") else tensor.to(slot.device)


def _require_same_dtypes(
    found: Mapping[str, torch.Tensor | None], slots: Mapping[str, torch.Tensor], model: str
) -> None:
    differ = {
        name: (tensor.dtype, slots[name].dtype)
        for name, tensor in found.items()
        if tensor is not None and tensor.dtype != slots[name].dtype
    }
    if differ:
        ours, theirs = differ[min(differ)]
        hint = f'make the module of {ours}, or say dtypes="take" (it gets the model\'s) or "cast" (copies to its own)'
        message = f"types differ ({ours} in the model, {theirs} in the module): {some(differ)}"
        raise unfit(message, model, hint)
