"""Tensors without memory that show where a library puts each tensor of a state dict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from weightd import _into_module


class StandIns:
    """For the tensors of a model in a GPU's memory, which transformers would copy to the host.

    Each is one element on the CPU, strided to the tensor's shape and found again by its address. A tensor that
    the library changes (merges, casts, turns) is no stand-in's any more: those have to be `real`.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], real: Collection[str] = ()) -> None:
        """Makes them.

        Args:
            tensors: By name.
            real: Names of those that the library is to be given itself.
        """
        hollow: dict[int, torch.Tensor] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self._originals: dict[int, torch.Tensor] = {}
        self._names: dict[int, list[str]] = {}
        for name, tensor in tensors.items():
            if name in real or not tensor.numel():
                self.tensors[name] = tensor
                continue
            if id(tensor) not in hollow:
                # Values differ (of one byte, all but each 256th), so that only names of one tensor look tied.
                hollow[id(tensor)] = _hollow(tensor, len(hollow))
            stand_in = self.tensors[name] = hollow[id(tensor)]
            self._originals[stand_in.data_ptr()] = tensor
            self._names.setdefault(stand_in.data_ptr(), []).append(name)

    def not_in(self, module: torch.nn.Module, unexpected: Collection[str]) -> set[str]:
        """Names of those that are neither in the module nor unexpected there."""
        there = {tensor.data_ptr() for tensor in module.state_dict(keep_vars=True).values() if self._is(tensor)}
        return {name for place, names in self._names.items() if place not in there for name in names} - {*unexpected}

    def replace_in(self, module: torch.nn.Module, device: str) -> dict[str, int]:
        """Puts the tensors in their stand-ins' places, and all else beside them.

        Returns:
            Bytes of the parameters that had to be moved, by name.
        """
        moved: dict[str, int] = {}
        slots = _into_module.named_tensors(module)
        for names in _into_module.tied_names(slots):
            slot = slots[names[0]]
            placed = self._originals[slot.data_ptr()] if self._is(slot) else slot.detach().to(device)
            if isinstance(slot, torch.nn.Parameter):
                if not self._is(slot):
                    moved[names[0]] = slot.nbytes
                parameter = torch.nn.Parameter(placed, requires_grad=slot.requires_grad)
                parameter.__dict__.update(slot.__dict__)
                placed = parameter
            for name in names:
                _into_module.put(module, name, placed)
        return moved

    def _is(self, tensor: torch.Tensor) -> bool:
        """Whether it stands in for one of the same shape and type."""
        original = self._originals.get(tensor.data_ptr())
        return original is not None and (tensor.shape, tensor.dtype) == (original.shape, original.dtype)


def _hollow(tensor: torch.Tensor, number: int) -> torch.Tensor:
    """One element in the shape of many. Its bytes are the number's, whatever the type is."""
    size = tensor.element_size()
    one = torch.frombuffer(bytearray((number + 1).to_bytes(8, "little")[:size].ljust(size, b"\0")), dtype=torch.uint8)
    return one.view(tensor.dtype)[:1].reshape(()).expand(tensor.shape)
