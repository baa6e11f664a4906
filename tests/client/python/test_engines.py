"""Loaders for vLLM and SGLang, in stand-ins of theirs."""

from __future__ import annotations

import importlib
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import weightd
from fake_gpu import FakeGpu, rounded
from weightd import _engines

import engines
from conftest import Daemon, GpuModel, Moves
from test_daemon import leases
from test_torch import eventually

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


def test_vllm_by_a_relative_path(
    engine: Callable[[str], Any], daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("vllm")
    monkeypatch.chdir(folder.parent)
    assert len(load_with_vllm(config(daemon), folder.name, Network(*NAMES)).seen) == 2


def test_vllm_misses_a_weight(engine: Callable[[str], Any], daemon: Daemon, folder: Path) -> None:
    engine("vllm")
    with pytest.raises(ValueError, match=r"no weights for \['third.weight'\]"):
        load_with_vllm(config(daemon), str(folder), Network(*NAMES, "third.weight"))
    load_with_vllm(config(daemon), str(folder), Network(*NAMES, "third.weight"), quantization="fp8")


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_second_model_is_refused(
    engine: Callable[[str], Any], daemon: Daemon, folder: Path, name: str
) -> None:
    engine(name)
    network = Network(*NAMES)
    network.secondary_weights = ["more"]
    load_config = config(daemon)
    load_config.load_format = {"vllm": "weightd", "sglang": "private"}[name]
    with pytest.raises(ValueError, match="second model"):
        (load_with_vllm if name == "vllm" else load_with_sglang)(load_config, str(folder), network)


# On a GPU, which is a fake; torch has the bytes as copies on the CPU, one for each of the GPU's.

TENSORS = {name: torch.arange(12, dtype=torch.float32).reshape(3, 4) + i for i, name in enumerate(NAMES)}


@pytest.fixture
def on_gpu(gpu_model: GpuModel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Loaders with device="cuda" get TENSORS, placed anew for each attach. Gives what they were asked for."""
    asked = []

    def attach(model: str, _: str | None, device: str, **__: object) -> weightd.Model:
        asked.append((model, device))
        return gpu_model(TENSORS)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(_engines, "attach", attach)
    return asked


class Streaming(Network):
    """Keeps nothing of what it is given, and sees whether anybody else does."""

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        alive: list[weakref.ref[torch.Tensor]] = []

        def watched() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights:
                assert not any(earlier() is not None for earlier in alive)
                alive.append(weakref.ref(tensor))
                yield name, tensor
                del tensor

        loaded = set()
        for name, tensor in watched():
            self.get_parameter(name).copy_(tensor)
            loaded.add(name)
            del tensor
        return loaded


class Writing(Network):
    """As SGLang's Gemma: it changes what it is given, then copies that."""

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        return super().load_weights((name, tensor.add_(1)) for name, tensor in weights)


def test_vllm_takes_tensors_from_the_gpu(
    engine: Callable[[str], Any],
    daemon: Daemon,
    on_gpu: list[Any],
    gpu: FakeGpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time, as they lie there: weightd moves and copies none, and nothing of it is left on the GPU."""
    engine("vllm")
    free, network = gpu.free_bytes(), Streaming(*NAMES)
    moves = Moves(monkeypatch)
    load_with_vllm(config(daemon, device="cuda"), "org/name", network)
    parameters = [parameter.data_ptr() for parameter in network.parameters()]
    assert moves.seen == [("copy_", pointer) for pointer in parameters]
    assert on_gpu == [("org/name", "cuda:3")] * 2  # once to wait for it
    assert eventually(lambda: gpu.free_bytes() == free)  # the fake daemon may still be closing its descriptor
    assert torch.equal(network.second.weight, TENSORS["second.weight"])


def test_vllm_is_told_what_the_gpu_holds(
    engine: Callable[[str], Any], daemon: Daemon, on_gpu: list[Any], gpu: FakeGpu, gpu_model: GpuModel
) -> None:
    module = engine("vllm")
    vllm_config = types.SimpleNamespace(model_config=types.SimpleNamespace(model="org/name", quantization=None))
    on_cpu = module.WeightdModelLoader(config(daemon))
    assert on_cpu.get_external_weight_memory(vllm_config) == 0
    assert on_gpu == []
    free = gpu.free_bytes()
    held = gpu_model(TENSORS)
    taken = free - gpu.free_bytes()
    loader = module.WeightdModelLoader(config(daemon, device="cuda"))
    assert loader.get_external_weight_memory(vllm_config) == taken > 0
    assert on_gpu == [("org/name", "cuda:3")]
    held.close()


@pytest.mark.usefixtures("on_gpu")
def test_sglang_may_write_to_what_it_gets_on_a_gpu(
    engine: Callable[[str], Any], daemon: Daemon, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("sglang")
    load_config = config(daemon, device="cuda")
    load_config.load_format = "private"
    free = gpu.free_bytes()
    moves = Moves(monkeypatch)
    network, loader = load_with_sglang(load_config, "org/name", Writing(*NAMES))
    assert torch.equal(network.second.weight, TENSORS["second.weight"] + 1)
    assert [verb for verb, _ in moves.seen] == ["clone", "copy_"] * 2
    shared = {pointer for verb, pointer in moves.seen if verb == "clone"}
    assert not {tensor.data_ptr() for tensor in network.seen} & shared
    assert loader.preloaded_weights_bytes == rounded(sum(tensor.nbytes for tensor in TENSORS.values()))
    assert eventually(lambda: gpu.free_bytes() == free)  # the fake daemon may still be closing its descriptor


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
    assert loader.preloaded_weights_bytes == 0


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
