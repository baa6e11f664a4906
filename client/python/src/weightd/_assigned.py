"""transformers' models over tensors that are as the module has them.

`from_pretrained` renames, converts and places tensor by tensor, which takes longer than to make the module. Where
nothing of that would change a tensor, it is enough to put them in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import conversion_mapping, core_model_loading
from transformers.initialization import no_init_weights

from weightd import _into_module
from weightd.torch import parameters_on_meta

# Options of from_pretrained with which this gives the same module.
_OPTIONS = {"dtype", "torch_dtype", "attn_implementation"}


def assigned(
    cls: Any, config: transformers.PreTrainedConfig, tensors: Mapping[str, torch.Tensor], options: dict[str, Any]
) -> Any:
    """A module of class `cls` whose parameters are `tensors`, in evaluation mode, with its buffers on the CPU.

    None if a tensor is missing or has no place, or if it would have to be changed.
    """
    dtype = _dtype(config, tensors, options)
    if dtype is None or not options.keys() <= _OPTIONS:
        return None
    given = {name: value for name, value in options.items() if name == "attn_implementation"}
    with no_init_weights(), parameters_on_meta():
        module = cls._from_config(copy.deepcopy(config), dtype=dtype, **given)
    module.tie_weights()  # which is not done without initialisation
    slots = module.state_dict(keep_vars=True)
    computed = {name for name, _ in module.named_buffers(remove_duplicate=False)} - slots.keys()
    tensors = {name: tensor for name, tensor in tensors.items() if name not in computed}
    placed = _placed(slots, tensors)
    if placed is None or module._get_dtype_plan(dtype) or not _keep_their_names(module, tensors):
        return None
    if not _into_module.assign(module, placed):
        return None
    _initialise(module, computed)
    return module.eval()


def _dtype(
    config: transformers.PreTrainedConfig, tensors: Mapping[str, torch.Tensor], options: dict[str, Any]
) -> torch.dtype | None:
    """The type that `from_pretrained` would give parameters; None if the tensors have others."""
    types = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    asked = options.get("dtype") or options.get("torch_dtype") or "auto"
    if asked == "auto":
        asked = config.dtype or next(iter(types), None)
    dtype = getattr(torch, asked, None) if isinstance(asked, str) else asked
    return dtype if types == {dtype} else None


def _placed(
    slots: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> list[tuple[list[str], torch.Tensor]] | None:
    """The tensor of each slot under all of its names, if all tensors have a place, and every place a fitting one."""
    if not tensors.keys() <= slots.keys():
        return None
    placed = []
    for names in _into_module.tied_names(slots):
        found = [tensors[name] for name in names if name in tensors]
        slot = slots[names[0]]
        if not found or any((tensor.shape, tensor.dtype) != (slot.shape, slot.dtype) for tensor in found):
            return None
        if len({tensor.data_ptr() for tensor in found}) > 1:  # copies of a tied weight, or weights that differ
            return None
        placed.append((names, found[0]))
    return placed


def _initialise(module: Any, computed: set[str]) -> None:
    """Lets transformers compute what the model doesn't have: those buffers."""
    for tensor in module.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True
    # Also modules whose initialisation would find nothing to do, neither in them nor below: looking takes long.
    concerned = {""}
    for name in computed:
        while name:
            name = name.rpartition(".")[0]
            concerned.add(name)
    for name, part in module.named_modules(remove_duplicate=False):
        if name not in concerned:
            part._is_hf_initialized = True
    module.initialize_weights()


def _keep_their_names(module: Any, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether no conversion of the module's class concerns any of them."""
    mapping = conversion_mapping.get_model_conversion_mapping(module)
    converters = [each for each in mapping if isinstance(each, core_model_loading.WeightConverter)]
    renamings = [each for each in mapping if isinstance(each, core_model_loading.WeightRenaming)]
    return all(
        core_model_loading.rename_source_key(name, renamings, converters) == (name, None) for name in tensors
    )
