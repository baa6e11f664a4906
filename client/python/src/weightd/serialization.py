"""tensorizer's verbs: writing models to files and stores, and reading them through the daemon.

    from weightd.serialization import Deserializer, save_file

    save_file(module, "s3://models/bert/model.tensors")
    with Deserializer("s3://models/bert/model.tensors") as tensors:
        tensors.load_into_module(module)

Needs torch, which is imported when something is written or the first tensor is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weightd import _weight_file
from weightd._deserializer import Deserializer
from weightd._destination import destination, suffix, synced

if TYPE_CHECKING:
    import torch

__all__ = ["Deserializer", "save_file"]


def save_file(
    source: torch.nn.Module | Mapping[str, Any] | list[Any],
    target: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a module or a state dict to a safetensors or a tensorizer file, whichever the target's name says.

    The bytes go from the tensors' memory to the file; there is no second copy of the model. The target is there whole
    or not at all: it is written beside, synced and renamed; after an error, or when the process is killed, what was
    there before is untouched. The tensors must not change meanwhile.

    `*.safetensors`: a module's state dict, or a dict of tensors. Names of one tensor (tied weights) are stored once,
    and the others are kept in the file's metadata as safetensors' save_model does, where `Model` and `Deserializer`
    find them. Views that only overlap are stored by themselves.

    `*.tensors`: a module's parameters and buffers, or a state dict of dicts with str keys and lists, as deep as you
    like; layers without tensors are left out. Meta tensors are stored as such, and read as zeros. The format knows no
    aliases: tied weights are stored as often as they have names, except those of one module. tensorizer up to 2.12.1
    can't open a file with an empty or meta tensor of a type that numpy lacks (bfloat16); the daemon can.

    Args:
        source: What to write.
        target: A path, a file:// URI, or an s3:// URI, which is pushed with weightctl (from the environment variable
            WEIGHTCTL, else the PATH) with its credentials and settings after it was written to TMPDIR.
        metadata: Free text for a safetensors file; by default {"format": "pt"}, which transformers wants to see.

    Raises:
        Error: What can't be written, with its name (InvalidRequestError); what weightctl says.
        OSError: The target can't be written.
    """
    plan = _weight_file.plan(source, suffix(target), metadata)
    with destination(target) as path, synced(path) as file:
        plan.write(file)
