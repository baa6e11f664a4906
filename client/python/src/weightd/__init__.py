"""Zero-copy tensors from weightd, the daemon that keeps one copy of a model's weights per node.

    import weightd

    with weightd.attach("https://models.example/bert/model.safetensors") as model:
        weight = model["embeddings.word_embeddings.weight"]

torch and numpy are imported when the first tensor is asked for, and the modules `weightd.torch`, `weightd.transformers`
and `weightd.sentence_transformers` when they are first named.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from weightd._attach import attach
from weightd._device import DeviceBytes
from weightd._patch import Patch, patch, unpatch
from weightd.errors import (
    ClosedError,
    DeadlineError,
    DeviceError,
    Error,
    InternalError,
    InvalidRequestError,
    MalformedModelError,
    ModelFileNotFoundError,
    NoRoomError,
    NotAllowedError,
    NotFoundError,
    SourceError,
    TensorNotFoundError,
    UnavailableError,
)
from weightd.files import ModelFiles
from weightd.model import FileCheck, Model
from weightd.progress import Progress
from weightd.tensors import TensorInfo

if TYPE_CHECKING:
    from weightd import sentence_transformers as sentence_transformers
    from weightd import torch as torch
    from weightd import transformers as transformers

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "DeadlineError",
    "DeviceBytes",
    "DeviceError",
    "Error",
    "FileCheck",
    "InternalError",
    "InvalidRequestError",
    "MalformedModelError",
    "Model",
    "ModelFileNotFoundError",
    "ModelFiles",
    "NoRoomError",
    "NotAllowedError",
    "NotFoundError",
    "Patch",
    "Progress",
    "SourceError",
    "TensorInfo",
    "TensorNotFoundError",
    "UnavailableError",
    "attach",
    "patch",
    "unpatch",
]

_WITH_FRAMEWORKS = ("torch", "transformers", "sentence_transformers")


def __getattr__(name: str) -> ModuleType:
    """Modules that import a framework, when they are first named."""
    if name in _WITH_FRAMEWORKS:
        return importlib.import_module(f"weightd.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
