"""Deserializer, over the real daemon, of what save_file wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import weightd
from weightd.serialization import Deserializer, save_file

from conftest import Daemon


class Network(torch.nn.Module):
    """Tied weights, a module that is there twice, tensors of its own, buffers of both kinds."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.scale = torch.nn.Parameter(torch.randn(3))
        self.embedding = torch.nn.Embedding(7, 5)
        self.head = torch.nn.Linear(5, 7)
        self.head.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(5)
        self.same = self.norm
        self.register_buffer("hidden", torch.randn(2), persistent=False)


def shell() -> Network:
    """A network on the meta device."""
    with torch.device("meta"):
        return Network()


def write(path: Path, source: object) -> str:
    save_file(source, path)  # type: ignore[arg-type]
    return path.as_uri()


@pytest.fixture(params=["safetensors", "tensors"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_module_comes_back_without_a_copy(daemon: Daemon, tmp_path: Path, suffix: str) -> None:
    written = Network()
    uri = write(tmp_path / f"m.{suffix}", written)
    module = shell()
    with Deserializer(uri, socket_dir=daemon.socket_dir) as tensors:
        count = tensors.load_into_module(module)
        assert module.head.bias.data_ptr() == tensors["head.bias"].data_ptr()
    expected = written.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert module.head.weight is module.embedding.weight
    assert module.same is module.norm
    assert isinstance(module.scale, torch.nn.Parameter)
    assert module.scale.requires_grad
    # tensorizer's way has non-persistent buffers, and a module that is there twice only once.
    assert count == {"safetensors": 14, "tensors": 10}[suffix]
    assert module.hidden.is_meta == (suffix == "safetensors")
    if suffix == "tensors":
        assert torch.equal(module.hidden, written.hidden)
        assert "hidden" not in module.state_dict()


def test_it_is_a_mapping(daemon: Daemon, tmp_path: Path, suffix: str) -> None:
    network = Network()
    uri = write(tmp_path / f"m.{suffix}", network)
    with Deserializer(uri, socket_dir=daemon.socket_dir) as tensors:
        assert len(tensors) == len(list(tensors)) == len(tensors.items())
        assert "scale" in tensors
        assert torch.equal(tensors["scale"], tensors[".scale"])
        assert {"head.weight", "embedding.weight", "norm.running_mean"} <= tensors.keys()
        expected = {**network.state_dict(), "hidden": network.hidden}
        assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
        assert tensors.tree().keys() == tensors.keys()
        assert tensors.get("none") is None
        with pytest.raises(KeyError, match="none"):
            tensors["none"]
        kept = tensors["scale"]
    assert torch.equal(kept, network.scale)
    with pytest.raises(weightd.ClosedError):
        tensors["scale"]


def test_filters_choose(daemon: Daemon, tmp_path: Path, suffix: str) -> None:
    network = Network()
    uri = write(tmp_path / f"m.{suffix}", network)

    def of_head(name: str) -> bool:
        return name.startswith("head")

    with Deserializer(uri, socket_dir=daemon.socket_dir, filter_func=of_head) as tensors:
        assert set(tensors) == {"head.weight", "head.bias"}
    module = Network(seed=2)
    before = module.scale.clone()
    with Deserializer(uri, socket_dir=daemon.socket_dir) as tensors:
        assert tensors.load_into_module(module, of_head) == 2
    assert torch.equal(module.head.bias, network.head.bias)
    assert torch.equal(module.embedding.weight, network.embedding.weight)
    assert torch.equal(module.scale, before)


def test_what_does_not_fit_is_named(daemon: Daemon, tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(5, 3), "more": torch.ones(1)}
    uri = write(tmp_path / "m.safetensors", tensors)
    with Deserializer(uri, socket_dir=daemon.socket_dir) as found:
        with pytest.raises(weightd.InvalidRequestError, match="module has, and the model has not: 'bias'"):
            found.load_into_module(torch.nn.Linear(3, 5))
        with pytest.raises(weightd.InvalidRequestError, match="model has, and the module has not: 'more'"):
            found.load_into_module(torch.nn.Linear(3, 5, bias=False))
        with pytest.raises(weightd.InvalidRequestError, match="size mismatch"):
            found.load_into_module(torch.nn.Linear(3, 4), strict=False)
        assert found.load_into_module(torch.nn.Linear(3, 5), strict=False) == 1


def test_nested_state_dicts(daemon: Daemon, tmp_path: Path) -> None:
    nested = {"layers": [torch.ones(1), {"w": torch.ones(2), "v": torch.ones(3)}], "bias": torch.ones(4)}
    uri = write(tmp_path / "m.tensors", nested)
    with Deserializer(uri, socket_dir=daemon.socket_dir) as tensors:
        assert set(tensors) == {"layers", "bias"}
        assert len(tensors["layers"][1]["w"]) == 2
        assert tensors.tree()["layers"][0].shape == (1,)
        with pytest.raises(weightd.InvalidRequestError, match="nested"):
            tensors.load_into_module(torch.nn.Linear(1, 1))
    with pytest.raises(weightd.ClosedError):
        tensors["layers"]
    with Deserializer(
        uri, socket_dir=daemon.socket_dir, filter_func=lambda name: name in ("bias", ("layers", 1, "v"))
    ) as tensors:
        assert set(tensors.tree()["layers"][0]) == {"v"}
    with Deserializer(write(tmp_path / "l.tensors", [torch.ones(1)]), socket_dir=daemon.socket_dir) as tensors:
        assert list(tensors) == [0]
        assert tensors[0] == 1
        assert isinstance(tensors.tree(), list)


def test_every_type_comes_back(daemon: Daemon, tmp_path: Path, suffix: str) -> None:
    dtypes = [torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32]
    dtypes += [torch.uint64, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
    dtypes += [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz]
    dtypes += [torch.float8_e5m2fnuz, torch.float4_e2m1fn_x2]
    if suffix == "tensors":
        dtypes += [torch.complex32, torch.complex128, torch.bits16, torch.uint3]
    raw = torch.randint(0, 2, (3, 4 * 16), dtype=torch.uint8)
    written = {str(kind): raw.view(kind) for kind in dtypes}
    written |= {f"{kind}.empty": torch.empty((0, 4), dtype=kind) for kind in dtypes}
    written["scalar"] = torch.tensor(2.5)
    if suffix == "tensors":
        written["hollow"] = torch.empty((2, 3), dtype=torch.bfloat16, device="meta")
        written["hollow scalar"] = torch.empty((), device="meta")
    with Deserializer(write(tmp_path / f"m.{suffix}", written), socket_dir=daemon.socket_dir) as found:
        assert found.keys() == written.keys()
        for name, tensor in written.items():
            assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
            if tensor.is_meta:
                assert not found[name].any()
            elif tensor.dim() and tensor.numel():
                assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name
        assert found["scalar"] == 2.5
        checks = found.model.verified_tensors
        assert (checks.unverified, checks.crc32) == (0, len(written) if suffix == "tensors" else 0)
