"""Loaders for vLLM and SGLang, in stand-ins of theirs."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import weightd

import engines
from conftest import Daemon
from test_daemon import leases

NAMES = ("first.weight", "second.weight")


class Network(torch.nn.Module):
    """An engine's model: it copies what it is given into parameters of its own, and says which."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            part = torch.nn.Linear(4, 3, bias=False)
            part.weight.requires_grad_(False).zero_()
            self.add_module(name.partition(".")[0], part)
        self.seen: list[torch.Tensor] = []

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        parameters = dict(self.named_parameters())
        loaded = set()
        for name, tensor in weights:
            self.seen.append(tensor)
            if name in parameters:
                parameters[name].copy_(tensor)
                loaded.add(name)
        return loaded


SEAM = "sglang.private.private_model_loader"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Puts a stand-in in place, and gives weightd's module for it, registered as the engine does it."""

    def start(name: str) -> Any:
        for module_name, module in getattr(engines, name)().items():
            monkeypatch.setitem(sys.modules, module_name, module)
        monkeypatch.delitem(sys.modules, f"weightd.{name}", raising=False)
        group = {"vllm": "vllm.general_plugins", "sglang": "sglang.srt.plugins"}[name]
        (entry,) = [entry for entry in entry_points(group=group) if entry.name == "weightd"]
        entry.load()()
        entry.load()()  # each process may do it more than once
        return importlib.import_module(f"weightd.{name}")

    yield start
    sys.modules.pop(SEAM, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "network"
    path.mkdir()
    tensors = {name: torch.arange(12, dtype=torch.float32).reshape(3, 4) + i for i, name in enumerate(NAMES)}
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    return path


def config(daemon: Daemon, **extra: Any) -> types.SimpleNamespace:
    extra = {"socket_dir": str(daemon.socket_dir), **extra}
    return types.SimpleNamespace(load_format="weightd", model_loader_extra_config=extra)


def load_with_vllm(load_config: Any, model: str, network: Network, quantization: str | None = None) -> Any:
    loader = sys.modules["vllm.model_executor.model_loader"].get_model_loader(load_config)
    model_config = types.SimpleNamespace(model=model, quantization=quantization)
    loader.download_model(model_config)
    return loader.load_model(types.SimpleNamespace(made=network, model_config=model_config), model_config)


def load_with_sglang(load_config: Any, model: str, network: Network) -> Any:
    assert load_config.load_format == "private"
    loader = importlib.import_module(SEAM).PrivateModelLoader(load_config)
    model_config = types.SimpleNamespace(model_path=model, made=network)
    loader.download_model(model_config)
    device_config = types.SimpleNamespace(device="cpu")
    return loader.load_model(model_config=model_config, device_config=device_config), loader


def in_segments(tensors: list[torch.Tensor]) -> bool:
    """Whether all of them lie in memory of the daemon's."""
    spans = [
        [int(part, 16) for part in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "memfd:weightd" in line
    ]
    return all(any(first <= tensor.data_ptr() < last for first, last in spans) for tensor in tensors)


def test_vllm(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    engine("vllm")
    network = load_with_vllm(config(daemon), str(folder), Network(*NAMES))
    assert in_segments(network.seen)
    assert torch.equal(network.second.weight, network.first.weight + 1)
    assert not network.training
    network.seen.clear()
    assert leases(daemon) == 0


def test_vllm_by_another_name(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    engine("vllm")
    network = load_with_vllm(config(daemon, model=folder.as_uri()), "org/name", Network(*NAMES))
    assert len(network.seen) == 2


def test_vllm_misses_a_weight(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    engine("vllm")
    with pytest.raises(ValueError, match=r"no weights for \['third.weight'\]"):
        load_with_vllm(config(daemon), str(folder), Network(*NAMES, "third.weight"))
    load_with_vllm(config(daemon), str(folder), Network(*NAMES, "third.weight"), quantization="fp8")


def test_vllm_with_a_second_model(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    engine("vllm")
    network = Network(*NAMES)
    network.secondary_weights = ["more"]
    with pytest.raises(ValueError, match="second model"):
        load_with_vllm(config(daemon), str(folder), network)


def test_vllm_is_told_what_the_gpu_holds(
    engine: Callable[[str], Any], daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = engine("vllm")
    on_cpu = module.WeightdModelLoader(config(daemon))
    model_config = types.SimpleNamespace(model=str(folder), quantization=None)
    assert on_cpu.get_external_weight_memory(types.SimpleNamespace(model_config=model_config)) == 0
    on_gpu = module.WeightdModelLoader(config(daemon, device="cuda"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    asked = []

    def attach(model: str, *arguments: Any, **options: Any) -> Any:
        asked.append(arguments[1])
        return real(model, arguments[0], "cpu", **options)

    real = weightd.attach
    monkeypatch.setattr(sys.modules["weightd._engines"], "attach", attach)
    assert on_gpu.get_external_weight_memory(types.SimpleNamespace(model_config=model_config)) == 2 << 20
    assert asked == ["cuda:3"]


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_unknown_options(engine: Callable[[str], Any], daemon: Daemon, name: str) -> None:
    module = engine(name)
    loader = module.WeightdModelLoader if name == "vllm" else module.PrivateModelLoader
    with pytest.raises(ValueError, match="urii"):
        loader(config(daemon, urii="x"))
    with pytest.raises(ValueError, match="tpu"):
        loader(config(daemon, device="tpu"))


def test_without_a_daemon(engine: Callable[[str], Any], tmp_path: Path, folder: Path) -> None:
    engine("vllm")
    load_config = types.SimpleNamespace(
        load_format="weightd", model_loader_extra_config={"socket_dir": str(tmp_path / "nobody")}
    )
    with pytest.raises(weightd.UnavailableError, match="weightd"):
        load_with_vllm(load_config, str(folder), Network(*NAMES))


def test_sglang(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    module = engine("sglang")
    load_config = config(daemon)
    load_config.load_format = "private"
    network, loader = load_with_sglang(load_config, str(folder), Network(*NAMES))
    assert type(loader) is module.loader_class()
    assert in_segments(network.seen)
    assert torch.equal(network.second.weight, network.first.weight + 1)


def test_sglang_leaves_another_private_loader_alone(
    engine: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = types.ModuleType(SEAM)
    monkeypatch.setitem(sys.modules, SEAM, others)
    engine("sglang")
    assert sys.modules[SEAM] is others


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_the_stand_ins_are_as_the_engines_are(name: str) -> None:
    wheels = sorted(Path(os.environ.get("WEIGHTD_ENGINE_WHEELS", "/nonexistent")).glob(f"{name}-*.whl"))
    if not wheels:
        pytest.skip(f"no wheel of {name}: pip download --no-deps it and name its folder in WEIGHTD_ENGINE_WHEELS")
    assert engines.differences(name, wheels[-1]) == []
