"""Tensors of torch and numpy over mapped bytes, and of torch on GPUs.

The only place that imports them, and only when one is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from typing import Any

from weightd.errors import Error, error
from weightd.tensors import TensorInfo

# Makes a tensor over a part of a segment (a memoryview, or DeviceBytes) that is exactly its bytes, and keeps that part
# alive for as long as the tensor's storage lives.
Builder = Callable[[Any, TensorInfo], Any]

_TORCH_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "C32": "complex32",
    "C128": "complex128",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    # Two elements a byte: the last axis has half as many as the file says.
    "F4": "float4_e2m1fn_x2",
}

_NUMPY_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
}

_ML_DTYPES_TYPES = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def choose(framework: str) -> str:
    """The framework for "auto", without importing any: torch if it is there, else numpy."""
    if framework == "auto":
        for name, module in (("pt", "torch"), ("np", "numpy")):
            if module in sys.modules or importlib.util.find_spec(module) is not None:
                return name
        return "np"
    if framework not in ("pt", "np"):
        raise error(
            "INVALID_ARGUMENT",
            f"unknown framework {framework!r}",
            hint='use "auto", "pt" (torch) or "np" (numpy)',
        )
    return framework


def choose_on_gpu(framework: str) -> str:
    """As `choose`, of those that have tensors on GPUs: torch."""
    if framework == "np":
        raise error("UNSUPPORTED", "numpy has no arrays on GPUs", hint="use torch, or model.raw(name) with cupy")
    return choose("pt" if framework == "auto" else framework)


def builder(framework: str) -> Builder:
    """Imports the framework and returns what makes its tensors."""
    return _torch_builder() if framework == "pt" else _numpy_builder()


def require_torch(what: str) -> Any:
    """The module torch, for `what` ("writing models"), which needs it. Raises InvalidRequestError (UNSUPPORTED)."""
    return _require("torch", f"{what} needs torch", "pip install torch")


def torch_type_name(dtype: str) -> str:
    """Name in torch ("bfloat16") of an element type of safetensors; empty if it has none."""
    return _TORCH_TYPES.get(dtype, "")


def _torch_types(torch: Any) -> Callable[[TensorInfo], tuple[Any, tuple[int, ...]]]:
    """What gives a tensor's dtype and shape in torch."""
    dtypes = {dtype: getattr(torch, name) for dtype, name in _TORCH_TYPES.items() if hasattr(torch, name)}

    def types(info: TensorInfo) -> tuple[Any, tuple[int, ...]]:
        # A type that this torch doesn't have is given as the integer that it is stored as.
        kind = getattr(torch, info.torch_type, None) if info.torch_type else None
        kind = kind if isinstance(kind, torch.dtype) else dtypes.get(info.dtype)
        if kind is None:
            raise _no_type("torch", info.dtype)
        return kind, _packed(info.shape) if info.dtype == "F4" else info.shape

    return types


def _torch_builder() -> Builder:
    torch: Any = _require_for_tensors("torch")
    types = _torch_types(torch)
    frombuffer, empty = torch.frombuffer, torch.empty

    def build(buffer: memoryview, info: TensorInfo) -> Any:
        kind, shape = types(info)
        if not info.nbytes:
            return empty(shape, dtype=kind)
        if buffer.readonly:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given buffer is not writable")
                return frombuffer(buffer, dtype=kind).view(shape)
        # One frombuffer each, not views of a big one: every tensor has a storage of its own size, and saving one
        # saves only its bytes.
        return frombuffer(buffer, dtype=kind).view(shape)

    return build


def device_builder(device: str) -> Builder:
    """As `builder`, of torch, for parts in the memory of a GPU that torch calls `device`."""
    torch: Any = _require_for_tensors("torch")
    if torch.version.cuda is None:
        raise error("UNSUPPORTED", "this torch is built without CUDA", hint="install one with, or use model.raw(name)")
    types = _torch_types(torch)

    def build(part: Any, info: TensorInfo) -> Any:
        kind, shape = types(info)
        if not info.nbytes:
            return torch.empty(shape, dtype=kind, device=device)
        # torch keeps `part`. It would copy, in silence, what it takes to be on another device.
        bytes_of_it = torch.as_tensor(part, device=device)
        if bytes_of_it.data_ptr() != part.pointer:
            raise error("INTERNAL", f"torch copied what is on {device}", hint="use model.raw(name)")
        return bytes_of_it.view(kind).view(shape)

    return build


def _numpy_builder() -> Builder:
    numpy: Any = _require_for_tensors("numpy")
    dtypes = {dtype: numpy.dtype(name) for dtype, name in _NUMPY_TYPES.items()}

    def build(buffer: memoryview, info: TensorInfo) -> Any:
        kind = dtypes.get(info.dtype)
        if kind is None:
            name = _ML_DTYPES_TYPES.get(info.dtype)
            if name is None:
                raise _no_type("numpy", info.dtype)
            kind = dtypes[info.dtype] = numpy.dtype(getattr(_require_for_tensors("ml_dtypes"), name))
        return numpy.frombuffer(buffer, dtype=kind).reshape(info.shape)

    return build


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not shape or shape[-1] % 2:
        raise error(
            "UNSUPPORTED",
            f"a 4-bit tensor of shape {shape}: torch holds two elements a byte along the last axis",
            hint="use model.raw(name)",
        )
    return (*shape[:-1], shape[-1] // 2)


def _no_type(framework: str, dtype: str) -> Error:
    return error(
        "UNSUPPORTED",
        f"{framework} has no type for {dtype}",
        hint="use model.raw(name), which gives the bytes",
    )


def _require_for_tensors(module: str) -> Any:
    hint = f"pip install {module}, or use model.raw(name), which gives the bytes"
    return _require(module, f"this needs {module}", hint)


def _require(module: str, message: str, hint: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as failure:
        raise error("UNSUPPORTED", f"{message}: {failure}", hint=hint) from failure
