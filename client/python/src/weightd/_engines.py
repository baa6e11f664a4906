"""What loaders of inference engines share: their options, and a model's tensors as they want them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from weightd._attach import attach, uri_here
from weightd._device import DeviceSegment
from weightd.model import Model


@dataclasses.dataclass(frozen=True)
class Options:
    """What `--model-loader-extra-config` may say, all of it optional.

    Attributes:
        model: A URI, a path or an alias. Default: the engine's own model, by its name or path.
        device: "cpu": tensors lie in host memory, and the engine moves each to the GPU. "cuda": they lie on the GPU
            already, in one copy that all processes of the node share, which needs room there beside the engine's own.
        socket_dir: As `weightd.attach` has it.
        timeout: Seconds, as `weightd.attach` has it.
        sha256: As `weightd.attach` has it.
    """

    model: str = ""
    device: str = "cpu"
    socket_dir: str | None = None
    timeout: float | None = None
    sha256: str | Mapping[str, str] | None = None

    @staticmethod
    def of(extra_config: object) -> Options:
        """Raises ValueError, as the engines' own loaders do."""
        if not isinstance(extra_config, Mapping):
            raise ValueError(f"weightd: model_loader_extra_config is a {type(extra_config).__name__}, not a dict")
        known = [field.name for field in dataclasses.fields(Options)]
        unknown = sorted(str(key) for key in extra_config if key not in known)
        if unknown:
            raise ValueError(f"weightd: unknown model_loader_extra_config {unknown}; there are {known}")
        options = Options(**extra_config)
        if options.device not in ("cpu", "cuda"):
            raise ValueError(f'weightd: device {options.device!r} in model_loader_extra_config; use "cpu" or "cuda"')
        return options

    def attach(self, engines_model: str) -> Model:
        """Waits until the model is there. Raises weightd.Error."""
        device = self.device
        if device == "cuda":
            import torch

            device = f"cuda:{torch.cuda.current_device()}"
        return attach(
            uri_here(self.model or engines_model),
            self.socket_dir,
            device,
            framework="pt",
            timeout=self.timeout,
            sha256=self.sha256,
        )


def require_one_model(engines_module: object) -> None:
    """Raises ValueError, as the engines' own loaders do, for a module that wants weights of a second model, too."""
    if getattr(engines_module, "secondary_weights", ()):
        raise ValueError(
            f"weightd: {type(engines_module).__name__} takes weights of a second model; use --load-format auto for it"
        )


def weights(model: Model, *, writable: bool = False) -> Iterator[tuple[str, Any]]:
    """Every tensor with its name, one at a time, over the daemon's bytes, which are to be read only.

    With `writable` the engine may write to what it gets: on a GPU, where that would be a fault, to a copy of each
    tensor, which lasts as long as the engine keeps it. On the CPU writes are this process's own as it is.
    """
    copy = writable and model.device != "cpu"
    for name in model.tensors:
        yield name, model[name].clone() if copy else model[name]


def gpu_bytes(model: Model) -> int:
    """What the model takes of a GPU's memory."""
    segment = model._open_segment()
    return segment.nbytes if isinstance(segment, DeviceSegment) else 0
