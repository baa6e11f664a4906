"""transformers' models with weights from weightd.

    model = weightd.transformers.from_pretrained(AutoModelForCausalLM, "https://models.example/llama/")
    tokenizer = weightd.transformers.tokenizer("https://models.example/llama/")

Importing this imports torch and transformers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers.models.auto.auto_factory import _get_model_class

from weightd import _assigned, _into_module, _stand_ins
from weightd._attach import attach
from weightd._broken_files import naming_model
from weightd._options import passed_on
from weightd._report import LoadReport, require_none, unfit
from weightd.errors import error
from weightd.files import PrivateFolder
from weightd.model import Model
from weightd.torch import flat_state_dict

__all__ = ["LoadReport", "from_pretrained", "tokenizer"]

_log = logging.getLogger("weightd.transformers")

_PLACED = "weightd places the weights: say device= (\"cpu\" or \"cuda:0\")"
_DAEMON = "the daemon fetches the model: its config says how"
_REFUSED = {
    "device_map": _PLACED,
    "max_memory": _PLACED,
    "offload_folder": _PLACED,
    "offload_buffers": _PLACED,
    "tp_plan": "each process would copy its part; take model.get_sharded(…) instead",
    "tp_size": "each process would copy its part; take model.get_sharded(…) instead",
    "device_mesh": "each process would copy its part; take model.get_sharded(…) instead",
    "distributed_config": "each process would copy its part; take model.get_sharded(…) instead",
    "quantization_config": "quantizing while loading copies every weight; store the weights as they shall be",
    "trust_remote_code": "weightd runs no code that comes with a model; give the class itself and config=",
    "state_dict": "the weights are the model's; use the class's own from_pretrained(None, state_dict=…)",
    "gguf_file": "weightd serves safetensors and tensorizer files",
    "from_tf": "weightd serves safetensors and tensorizer files",
    "from_flax": "weightd serves safetensors and tensorizer files",
    "use_safetensors": "the model is what its URI names",
    "variant": "name the file in the URI",
    "subfolder": "name the folder in the URI",
    "revision": "name it in the URI",
    "token": _DAEMON,
    "proxies": _DAEMON,
    "cache_dir": _DAEMON,
    "force_download": _DAEMON,
    "adapter_kwargs": "load the adapter onto the model afterwards",
    "ignore_mismatched_sizes": "strict=False lets names differ, and shapes never",
}


class _Settings(NamedTuple):
    """What a model's folder says of it, and the options that are left."""

    config: transformers.PreTrainedConfig
    generation: transformers.GenerationConfig | None
    options: dict[str, Any]


class _Wanted(NamedTuple):
    """A load, with what it takes resolved; the rest is as `from_pretrained` has it."""

    cls: Any
    model: Model
    settings: _Settings
    strict: bool


def from_pretrained(
    cls: Any,
    model: str | Model,
    *,
    config: transformers.PreTrainedConfig | str | os.PathLike[str] | None = None,
    strict: bool = True,
    output_loading_info: bool = False,
    socket_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    sha256: str | Mapping[str, str] | None = None,
    device: str = "cpu",
    mode: str = "shared",
    cuda_driver: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Any:
    """As `cls.from_pretrained(model)`, with the daemon's bytes as the parameters, and its copy of the config.

    No parameter is copied whose type and layout are the module's: those of other types (`dtype=…`, or the config's
    `dtype`) and those that transformers merges or turns while it loads (experts of Mixtral) are, and a log line says
    so. On a GPU the parameters are the tensors there; transformers' own placement has no part in it.

    Args:
        cls: A class of transformers, also an Auto class.
        model: What `weightd.attach` takes, or an attached model with torch's tensors.
        config: A config, or a folder (also with generation_config.json) or file of one; by default the model's own,
            which a model has that is a folder.
        strict: Whether to raise if the model lacks a parameter, or has a tensor without a place. If not, the former are
            initialised at random and the latter left out, as transformers does. Shapes have to fit in any case.
        output_loading_info: Whether to return a LoadReport, too.
        socket_dir: As for `weightd.attach`; of no use with an attached model, as are the following.
        timeout: As for `weightd.attach`.
        sha256: As for `weightd.attach`.
        device: As for `weightd.attach`.
        mode: As for `weightd.attach`; "private" for training.
        cuda_driver: As for `weightd.attach`.
        options: What else `cls.from_pretrained` takes, also changes of the config.

    Returns:
        The module, in evaluation mode; with `output_loading_info` a tuple of it and its LoadReport.

    Raises:
        Error: As `weightd.attach`; ModelFileNotFoundError if the model has no config; InvalidRequestError for what
            doesn't fit, with names, and for options that can't work.
    """
    options = passed_on(options, _REFUSED)
    reader = _config_class(cls)
    if not isinstance(model, Model):
        placed: dict[str, Any] = {"device": device, "mode": mode, "cuda_driver": cuda_driver}
        model = attach(model, socket_dir, framework="pt", timeout=timeout, sha256=sha256, **placed)
    tensors = flat_state_dict(model)
    settings = _own_settings(model, reader, options) if config is None else _settings(config, reader, options)
    if getattr(settings.config, "quantization_config", None) is not None:
        hint = "load model.state_dict() with the quantizer's own means"
        raise error("UNSUPPORTED", "transformers loads quantized models its own way", model=model.uri, hint=hint)
    wanted = _Wanted(_concrete(cls, settings.config, model.uri), model, settings, strict)
    module, report = _made(wanted, tensors)
    _into_module.require_none_on_meta(module, model.uri)
    module.name_or_path = module.config.name_or_path = model.uri
    if settings.generation is not None and module.can_generate():
        module.generation_config = settings.options.get("generation_config") or settings.generation
    if report.copied:
        _log.warning(
            "%s: %d bytes of %d tensors were copied, which transformers converts", model.uri, report.copied_bytes,
            len(report.copied),
        )  # fmt: skip
    return (module, report) if output_loading_info else module


def tokenizer(
    model: str | Model,
    *,
    socket_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Any:
    """As `AutoTokenizer.from_pretrained(model)`, of the files that the daemon keeps beside the weights.

    Args:
        model: What `weightd.attach` takes, or an attached model.
        socket_dir: As for `weightd.attach`; of no use with an attached model, as is the following.
        timeout: As for `weightd.attach`.
        options: What else `AutoTokenizer.from_pretrained` takes.

    Raises:
        Error: As `weightd.attach`; ModelFileNotFoundError if the model has no tokenizer, MalformedModelError if one of
            its files is no JSON, InvalidRequestError for whatever else transformers doesn't take.
    """
    options = passed_on(options, {"trust_remote_code": "weightd runs no code that comes with a model"})
    if not isinstance(model, Model):
        model = attach(model, socket_dir, timeout=timeout)
    if "tokenizer_config.json" not in model.files and "tokenizer.json" not in model.files:
        hint = "attach the folder that the model's tokenizer lies in, or load that from where it is"
        raise error("FILE_NOT_FOUND", "no tokenizer lies beside the model's weights", model=model.uri, hint=hint)
    options = {**options, "local_files_only": True, "trust_remote_code": False}
    directory = model.directory()
    found = ", ".join(name for name in model.files if "token" in name or name.startswith(("config.json", "vocab")))
    hint = "is it a tokenizer of transformers? model.directory() has its files"
    with naming_model(model.uri, directory, f"transformers can't make a tokenizer of {found}", hint):
        made = transformers.AutoTokenizer.from_pretrained(directory, **options)
    made.name_or_path = model.uri
    return made


def _config_class(cls: Any) -> Any:
    """What reads the config of that class's models, as in transformers: an Auto class's, or the class's own."""
    if hasattr(cls, "_model_mapping"):
        return transformers.AutoConfig
    own = getattr(cls, "config_class", None)
    if own is None or not hasattr(cls, "_from_config"):
        hint = "give a class, as transformers.AutoModel; weightd.torch.load_into takes other modules"
        raise error("INVALID_ARGUMENT", f"{cls!r} is no class of transformers' models", hint=hint)
    return own


def _own_settings(model: Model, reader: Any, options: dict[str, Any]) -> _Settings:
    """Those that came with the model."""
    found = {name: model.files[name] for name in ("config.json", "generation_config.json") if name in model.files}
    if "config.json" not in found:
        hint = "attach the folder that the model's config lies in, or say config="
        raise error("FILE_NOT_FOUND", "no config.json lies beside the model's weights", model=model.uri, hint=hint)
    folder = PrivateFolder(found)
    # Also for models that bring code.
    hint = "config= takes a config, also of a class that you import yourself"
    try:
        with naming_model(model.uri, folder.path, "transformers can't read the model's config", hint):
            settings = _settings(folder.path, reader, options)
    finally:
        folder.remove()
    kernel = settings.config._attn_implementation
    if isinstance(kernel, str) and "/" in kernel and "attn_implementation" not in options:
        hint = "attn_implementation= says what to take instead, such as sdpa"
        raise error("UNSUPPORTED", f"the model's config names code of a hub: {kernel!r}", model=model.uri, hint=hint)
    return settings


def _settings(
    given: transformers.PreTrainedConfig | str | os.PathLike[str], reader: Any, options: dict[str, Any]
) -> _Settings:
    """With the options that change the config, and the others."""
    if isinstance(given, transformers.PreTrainedConfig):
        return _Settings(given, None, options)
    changes = {name: value for name, value in options.items() if name not in ("dtype", "torch_dtype")}
    if reader is transformers.AutoConfig:
        changes["trust_remote_code"] = False
    config, rest = reader.from_pretrained(given, return_unused_kwargs=True, local_files_only=True, **changes)
    generation = None
    if Path(given, "generation_config.json").is_file():
        generation = transformers.GenerationConfig.from_pretrained(given, local_files_only=True)
    return _Settings(config, generation, rest | {name: options[name] for name in options.keys() - changes.keys()})


def _concrete(cls: Any, config: transformers.PreTrainedConfig, model: str) -> Any:
    """The class that an Auto class stands for."""
    mapping = getattr(cls, "_model_mapping", None)
    if mapping is None:
        return cls
    if type(config) not in mapping:
        raise unfit(f"{cls.__name__} has no class for {type(config).__name__}", model, "use another class")
    return _get_model_class(config, mapping)  # type: ignore[no-untyped-call]


def _made(wanted: _Wanted, tensors: dict[str, torch.Tensor]) -> tuple[Any, LoadReport]:
    """The module, and what became of which tensor."""
    device = wanted.model.device
    module = _assigned.assigned(wanted.cls, wanted.settings.config, tensors, wanted.settings.options)
    if module is None:
        return (_on_cpu if device == "cpu" else _on_gpu)(wanted, tensors)
    if device != "cpu":
        _into_module.move_buffers(module, device, tensors.__contains__)
    return module, LoadReport(len(tensors), {}, (), ())


def _on_cpu(wanted: _Wanted, tensors: dict[str, torch.Tensor]) -> tuple[Any, LoadReport]:
    """What transformers does: it takes tensors of a state dict as they are, if they are on the CPU."""
    module, info = _load(wanted, tensors)
    return module, _report(tensors, _copied(module, tensors, info["missing_keys"]), info)


def _copied(module: Any, tensors: Mapping[str, torch.Tensor], missing: set[str]) -> dict[str, int]:
    """Bytes of what the module has in memory of its own though the model has it."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    persistent = module.state_dict(keep_vars=True)
    slots = {name: tensor for name, tensor in _into_module.named_tensors(module).items() if name in persistent}
    return {
        names[0]: slots[names[0]].nbytes
        for names in _into_module.tied_names(slots)
        if slots[names[0]].nbytes
        and missing.isdisjoint(names)
        and slots[names[0]].untyped_storage().data_ptr() not in storages
    }


def _on_gpu(wanted: _Wanted, tensors: dict[str, torch.Tensor]) -> tuple[Any, LoadReport]:
    """Lets transformers place stand-ins without memory, and puts the tensors in their places.

    What it changes instead of placing it goes through the host.
    """
    stand_ins = _stand_ins.StandIns(tensors)
    module, info = _load(wanted, stand_ins.tensors)
    if changed := stand_ins.not_in(module, info["unexpected_keys"]):
        stand_ins = _stand_ins.StandIns(tensors, real=changed)
        module, info = _load(wanted, stand_ins.tensors)
    moved = stand_ins.replace_in(module, wanted.model.device)
    copied = {name: nbytes for name, nbytes in moved.items() if name not in info["missing_keys"]}
    return module, _report(tensors, copied, info)


def _load(wanted: _Wanted, tensors: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
    cls, model = wanted.cls, wanted.model
    try:
        module, info = cls.from_pretrained(
            None,
            config=wanted.settings.config,
            state_dict=tensors,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **wanted.settings.options,
        )
    except RuntimeError as failure:  # conversions that fail
        raise unfit(str(failure), model.uri, "is it the right class, and the right config?") from failure
    # tensorizer's files have buffers that transformers computes.
    info["unexpected_keys"] = info["unexpected_keys"] - _buffers(module)
    shapes = {f"{name} {list(ours)} here, {list(theirs)} there" for name, ours, theirs in info["mismatched_keys"]}
    require_none(shapes, f"shapes differ from {cls.__name__}'s", model.uri, "is it the right config?")
    if wanted.strict:
        hint = "is it the right class? strict=False initialises what is missing and leaves out what has no place"
        require_none(info["missing_keys"], f"{cls.__name__} has, and the model has not", model.uri, hint)
        require_none(info["unexpected_keys"], f"the model has, and {cls.__name__} has not", model.uri, hint)
    return module, info


def _buffers(module: Any) -> set[str]:
    """Names of buffers, with the base model's prefix and without, as models may have them."""
    names = {name for name, _ in module.named_buffers()}
    prefix = f"{module.base_model_prefix}."
    return names | {name.removeprefix(prefix) for name in names} | {prefix + name for name in names}


def _report(tensors: Mapping[str, torch.Tensor], copied: Mapping[str, int], info: Mapping[str, Any]) -> LoadReport:
    unexpected = tuple(sorted(info["unexpected_keys"]))
    return LoadReport(len(tensors) - len(unexpected), copied, tuple(sorted(info["missing_keys"])), unexpected)
