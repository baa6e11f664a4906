"""Whether torch can use the GPU here."""

import importlib.metadata
import typing


def torch_with_cuda() -> typing.Any:
    """torch, imported; or why it can't be used, as text."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "there is no torch"
    if version.endswith("+cpu"):  # said without the seconds that its import takes
        return f"torch {version} has no CUDA"
    import torch

    return torch if torch.cuda.is_available() else f"torch {version} sees no GPU"
