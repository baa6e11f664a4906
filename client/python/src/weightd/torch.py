"""torch modules over a model's tensors, without a copy.

    with weightd.torch.parameters_on_meta():
        module = Network()
    report = weightd.torch.load_into(module, weightd.attach(uri))

Importing this imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from weightd import _into_module
from weightd._report import LoadReport
from weightd.errors import error
from weightd.model import Model

__all__ = ["LoadReport", "load_into", "parameters_on_meta"]

_DTYPES = ("same", "take", "cast")
_HINT = "is it the right module? strict=False loads what fits"

_lock = threading.Lock()
# How many blocks of parameters_on_meta are open, in all threads, and what register_parameter was before the first.
_inside = 0
_register = torch.nn.Module.register_parameter
# A thread's `hollow`: the parameters that its block saw, and those on meta that took their place: one that two modules
# have stays one.
_here = threading.local()


def load_into(module: torch.nn.Module, model: Model, strict: bool = True, *, dtypes: str = "same") -> LoadReport:
    """Makes the model's tensors the module's parameters and buffers, without a copy.

    They take the place of what the module has. Weights that the module ties stay tied, also if the model has only one
    of their names. If the model is in a GPU's memory the module's parameters become the tensors there, and buffers
    that the model doesn't have are moved beside them; make the module under `parameters_on_meta`.

    Args:
        module: Is changed, in part also when this raises. Nobody else may use it meanwhile.
        model: Attached, with torch's tensors.
        strict: Whether to raise if a tensor has no place in the module, or if the module has a parameter or persistent
            buffer that the model doesn't have.
        dtypes: What becomes of tensors that have another type in the module: "same" raises, "take" gives the module
            the model's (no copy), "cast" copies them to the module's type.

    Returns:
        What was loaded, and what had to be copied.

    Raises:
        Error: Model and module don't fit, or something is still on the meta device afterwards (InvalidRequestError,
            with names), or the model was closed (ClosedError).
    """
    if dtypes not in _DTYPES:
        raise error("INVALID_ARGUMENT", f"unknown dtypes {dtypes!r}", hint=f"use one of {_DTYPES}")
    tensors = flat_state_dict(model)
    required = (lambda _: True) if strict else None
    report = _into_module.load(module, tensors, required, model.uri, dtypes=dtypes, hint=_HINT)
    if model.device != "cpu":
        _into_module.move_buffers(module, model.device, tensors.__contains__)
    _into_module.require_none_on_meta(module, model.uri)
    return report


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """In its block parameters of new modules have no memory (they are on torch's meta device); buffers are computed.

    That is what `load_into` wants: it gives parameters their bytes, but models rarely have non-persistent buffers
    (rotary embeddings' frequencies), which `with torch.device("meta")` would leave empty. Modules that other threads
    make meanwhile are not concerned.
    """
    outer = getattr(_here, "hollow", None)
    if outer is None:
        _here.hollow = WeakIdKeyDictionary()
    _patch(1)
    try:
        yield
    finally:
        _patch(-1)
        _here.hollow = outer


def _patch(change: int) -> None:
    """Counts who is inside; the first replaces register_parameter, the last puts it back."""
    global _inside, _register
    with _lock:
        before, _inside = _inside, _inside + change
        if before == 0:
            _register = torch.nn.Module.register_parameter
            torch.nn.Module.register_parameter = _register_on_meta  # type: ignore[method-assign]
        elif _inside == 0:
            torch.nn.Module.register_parameter = _register  # type: ignore[method-assign]


def _register_on_meta(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
    hollow = getattr(_here, "hollow", None)
    if hollow is not None and param is not None and not param.is_meta and not is_lazy(param):
        if param not in hollow:
            hollow[param] = _on_meta(param)
        param = hollow[param]
    _register(self, name, param)


def flat_state_dict(model: Model) -> dict[str, torch.Tensor]:
    """The model's tensors by name, for a module. Raises InvalidRequestError if they are numpy's or nested."""
    if model.framework != "pt":
        hint = 'attach with framework="pt"'
        raise error("INVALID_ARGUMENT", "numpy's arrays have no place in a module", model=model.uri, hint=hint)
    tensors = model.state_dict()
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        hint = "take model.state_dict(), and load what belongs to the module with load_state_dict(…, assign=True)"
        raise error("UNSUPPORTED", "a nested state dict has no place in a module", model=model.uri, hint=hint)
    return tensors


def _on_meta(param: torch.nn.Parameter) -> torch.nn.Parameter:
    """As it is, with its class and attributes, and without its memory."""
    hollow: torch.nn.Parameter = torch.Tensor._make_subclass(type(param), param.data.to("meta"), param.requires_grad)
    hollow.__dict__.update(param.__dict__)
    return hollow
