"""The drop-in for safetensors, beside the library: each behaviour holds for both."""

from __future__ import annotations

import itertools
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors
import safetensors.torch
import torch
import weightd.safetensors
from weightd import serialization
from weightd.errors import error

from conftest import Daemon
from test_daemon import TORCH_TYPES

LIBRARIES = ("weightd", "safetensors")
WHOLE = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both have safe_open and load_file."""
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    return weightd.safetensors if request.param == "weightd" else safetensors.torch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "a folder" / "x.safetensors"
    target.parent.mkdir()
    tensors = {"b": WHOLE, "a": torch.tensor(3.5), "none": torch.zeros(0, 3), "half": torch.ones(4, 2).half()}
    safetensors.torch.save_file(tensors, target, {"format": "pt", "made by": "a test"})
    return target


def outcome(action: Callable[[], Any]) -> Any:
    """What it returns, or its exception's kind and text."""
    try:
        return action()
    except Exception as failure:
        return type(failure), str(failure)


def same(left: Any, right: Any) -> bool:
    """Whether two outcomes are: tensors and arrays to the bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, numpy.ndarray):
        return isinstance(right, numpy.ndarray) and left.dtype == right.dtype and numpy.array_equal(left, right)
    return isinstance(left, tuple) and isinstance(right, tuple) and left == right


def test_what_a_file_has(library: Any, path: Path) -> None:
    with library.safe_open(path, framework="pt") as file:
        assert file.keys() == ["a", "b", "half", "none"]
        assert file.metadata() == {"format": "pt", "made by": "a test"}
        assert torch.equal(file.get_tensor("b"), WHOLE)
        assert file.get_tensor("a").shape == ()
        assert file.get_tensor("none").shape == (0, 3)
        assert file.get_tensor("b").data_ptr() == file.get_tensor("b").data_ptr()
        tensors = file.get_tensors()
        assert list(tensors) == file.offset_keys()
        assert sorted(tensors) == file.keys()
        part = file.get_slice("half")
        assert (part.get_shape(), part.get_dtype()) == ([4, 2], "F16")


def test_the_order_of_the_bytes(daemon: Daemon, path: Path) -> None:
    ours = weightd.safetensors.safe_open(path, "pt", socket_dir=daemon.socket_dir)
    assert ours.offset_keys() == safetensors.safe_open(path, "pt").offset_keys()


def test_no_metadata(library: Any, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": WHOLE}, tmp_path / "bare.safetensors")
    assert library.safe_open(tmp_path / "bare.safetensors", "pt").metadata() is None


def test_load_file(library: Any, path: Path) -> None:
    loaded = library.load_file(str(path))
    assert sorted(loaded) == ["a", "b", "half", "none"]
    assert torch.equal(loaded["b"], WHOLE)
    loaded["b"].add_(1)  # one's own, and not the file's
    assert torch.equal(library.load_file(path, backend="pread")["b"], WHOLE)


def test_tensors_outlive_the_file(library: Any, path: Path) -> None:
    with library.safe_open(path, framework="pt") as file:
        tensor, part = file.get_tensor("b"), file.get_slice("b")
    assert torch.equal(tensor, WHOLE)
    assert torch.equal(part[1], WHOLE[1])
    for use in (file.keys, file.metadata, file.offset_keys, file.get_tensors):
        with pytest.raises(library_error(), match="File is closed"):
            use()
    for use in (file.get_tensor, file.get_slice):
        with pytest.raises(library_error(), match="File is closed"):
            use("b")


def library_error() -> type[Exception]:
    """One class for both."""
    assert weightd.safetensors.SafetensorError is safetensors.SafetensorError
    return safetensors.SafetensorError


@pytest.mark.parametrize("framework", ["pt", "torch", "pytorch", "np", "numpy"])
def test_frameworks(library: Any, path: Path, framework: str) -> None:
    tensor = library.safe_open(path, framework=framework).get_tensor("b")
    assert isinstance(tensor, numpy.ndarray if framework.startswith("n") else torch.Tensor)
    assert numpy.array_equal(numpy.asarray(tensor), WHOLE.numpy())


WRONG: list[Callable[[Any, Path], Any]] = [
    lambda library, path: library.safe_open(path, "pt").get_tensor("absent"),
    lambda library, path: library.safe_open(path, "pt").get_slice("absent"),
    lambda library, path: library.safe_open(path, "pt").get_tensor(3),
    lambda library, path: library.safe_open(path.with_name("missing.safetensors"), "pt"),
    lambda library, path: library.load_file(path.with_name("missing.safetensors")),
    lambda library, path: library.safe_open(str(path).encode(), "pt"),
    lambda library, path: library.safe_open(path, "fortran"),
    lambda library, path: library.safe_open(path, "pt", device="meta"),
    lambda library, path: library.safe_open(path, "pt", device="gpu"),
    lambda library, path: library.safe_open(path, "pt", device=torch.device("cpu")),
    lambda library, path: library.safe_open(path, "np", device="cuda:0"),
    lambda library, path: library.safe_open(path, "pt", backend="tape"),
    lambda library, path: library.load_file(path, device="meta"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_are_the_same(wrong: Callable[[Any, Path], Any], daemon: Daemon, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    ours = outcome(lambda: wrong(weightd.safetensors, path))
    assert ours == outcome(lambda: wrong(safetensors.torch, path))
    assert issubclass(ours[0], Exception)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 20, (2).to_bytes(8, "little") + b"{}x"])
def test_malformed_files(library: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(library_error(), match="Error while deserializing header"):
        library.safe_open(tmp_path / "bad.safetensors", framework="pt")


def test_no_other_protocols(library: Any, path: Path) -> None:
    file = library.safe_open(path, framework="pt")
    for use in (len, iter, lambda it: "b" in it):
        with pytest.raises(TypeError):
            use(file)


@pytest.mark.parametrize("dtype", TORCH_TYPES)
def test_every_dtype(library: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(64, dtype=torch.uint8).view(torch.uint8)
    if dtype == torch.bool:
        whole = whole % 2
    tensor = whole.view(dtype).reshape(4, -1)
    safetensors.torch.save_file({"t": tensor}, tmp_path / "x.safetensors")
    file = library.safe_open(tmp_path / "x.safetensors", framework="pt")
    loaded = file.get_tensor("t")
    assert (loaded.dtype, loaded.shape) == (dtype, tensor.shape)
    assert torch.equal(loaded.view(torch.uint8), tensor.view(torch.uint8))
    theirs = safetensors.safe_open(tmp_path / "x.safetensors", "pt").get_slice("t")
    assert file.get_slice("t").get_dtype() == theirs.get_dtype()
    assert file.get_slice("t").get_shape() == theirs.get_shape()
    if dtype == torch.float4_e2m1fn_x2 and library is safetensors.torch:
        return  # 0.8 has no slices of it
    assert torch.equal(file.get_slice("t")[1:3].view(torch.uint8), tensor[1:3].view(torch.uint8))


INDICES: list[Any] = [
    0, -1, 2, -3, (0, 1), slice(None), (slice(None), slice(1, 3)), (..., 1), slice(None, None, 2),
    slice(None, None, -1), slice(None, None, 0), None, (None, 0), [0, 1], [0, 5], (slice(None), [0, 2]),
    (slice(None), [-1]), (0, 0, 0), (0, 0, 0, 0), slice(1, 1), slice(5, 9), slice(2, 1), "x", 1.5, True,
    (slice(None), slice(None), slice(-1, None)), (slice(None), slice(-5, 2)), (), ..., [], ([0], [1]),
    (0, slice(None), [1, 2]), (slice(None), slice(None), slice(None), None), numpy.int64(1),
]  # fmt: skip


def random_indices(count: int) -> list[Any]:
    chance = random.Random(1)
    slices = itertools.starmap(slice, itertools.product((None, -3, 1), (None, -1, 2), (None, 1, 2)))
    parts = [None, ..., *range(-4, 4), *slices]
    return [tuple(chance.choices(parts, k=chance.randint(1, 4))) for _ in range(count)]


def test_slices_are_the_librarys(daemon: Daemon, path: Path) -> None:
    ours = weightd.safetensors.safe_open(path, "pt", socket_dir=daemon.socket_dir)
    theirs = safetensors.safe_open(path, "pt")
    for name in ("b", "a", "none"):
        left, right = ours.get_slice(name), theirs.get_slice(name)
        for index in INDICES + random_indices(500):
            expected = outcome(lambda: right[index])  # noqa: B023
            assert same(outcome(lambda: left[index]), expected), (name, index, expected)  # noqa: B023


def test_slices_of_numpy_are_the_librarys_and_more(daemon: Daemon, path: Path) -> None:
    ours = weightd.safetensors.safe_open(path, "np", socket_dir=daemon.socket_dir)
    theirs = safetensors.safe_open(path, "np")
    for name in ("b", "a", "none"):
        left, right = ours.get_slice(name), theirs.get_slice(name)
        for index in INDICES + random_indices(500):
            if index is True:  # the library takes it as 1, numpy as a new axis
                continue
            expected, found = outcome(lambda: right[index]), outcome(lambda: left[index])  # noqa: B023
            if isinstance(expected, numpy.ndarray):
                assert same(found, expected), (name, index, expected)
            else:
                refused = isinstance(found, tuple) and issubclass(found[0], (expected[0], library_error()))
                assert refused or isinstance(found, numpy.ndarray), (name, index, found)


def test_without_a_daemon(tmp_path: Path, path: Path) -> None:
    with pytest.raises(weightd.UnavailableError, match="weightd"):
        weightd.safetensors.safe_open(path, "pt", socket_dir=tmp_path)


def test_a_uri_and_a_tensorizer_file(daemon: Daemon, path: Path, tmp_path: Path) -> None:
    assert "b" in weightd.safetensors.load_file(path.as_uri(), socket_dir=daemon.socket_dir)
    serialization.save_file({"w": WHOLE}, str(tmp_path / "x.tensors"))
    loaded = weightd.safetensors.load_file(tmp_path / "x.tensors", socket_dir=daemon.socket_dir)
    assert torch.equal(loaded["w"], WHOLE)


def is_shared(tensor: torch.Tensor) -> bool:
    """Whether its bytes lie in a segment of the daemon's."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= tensor.data_ptr() < last:
            return "memfd:weightd" in line
    return False


def test_patch(daemon: Daemon, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": WHOLE}, other)
    originals = safetensors.safe_open, safetensors.torch.load_file
    with weightd.patch(path.parent, socket_dir=daemon.socket_dir):
        through, beside = safetensors.torch.load_file(path), safetensors.torch.load_file(other)
        assert is_shared(through["b"])
        assert not is_shared(beside["a"])
        file = safetensors.torch.safe_open(str(path), framework="pt", device="cpu")
        assert isinstance(file, weightd.safetensors.safe_open)
        assert isinstance(safetensors.safe_open(other, framework="pt"), originals[0])
        assert torch.equal(file.get_slice("b")[...], WHOLE)
    assert (safetensors.safe_open, safetensors.torch.load_file) == originals
    assert torch.equal(through["b"], beside["a"])


def test_patch_reaches_modules_that_have_them(daemon: Daemon, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("imported_before")
    exec("from safetensors import safe_open, safe_open as open_weights", vars(module))
    exec("from safetensors.torch import load_file as read_weights", vars(module))
    before = dict(vars(module))
    monkeypatch.setitem(sys.modules, "imported_before", module)
    monkeypatch.setenv("WEIGHTD_PATCH_PATHS", f"{path.parent}/*.safetensors")
    weightd.patch(socket_dir=daemon.socket_dir)
    weightd.patch(socket_dir=daemon.socket_dir)  # takes the first one's place
    assert isinstance(module.safe_open(path, "pt"), weightd.safetensors.safe_open)
    assert isinstance(module.open_weights(path, "pt"), weightd.safetensors.safe_open)
    assert is_shared(module.read_weights(path)["b"])
    exec("from safetensors import safe_open as taken_since", vars(module))
    weightd.unpatch()
    weightd.unpatch()
    assert vars(module) == before | {"taken_since": before["safe_open"]}
    assert not is_shared(module.read_weights(path)["b"])
    assert safetensors.safe_open is before["safe_open"]


def test_patch_without_a_daemon(tmp_path: Path, path: Path) -> None:
    with weightd.patch(path, socket_dir=tmp_path / "nobody"), pytest.raises(weightd.UnavailableError):
        safetensors.torch.load_file(path)
    with (
        weightd.patch(path, socket_dir=tmp_path / "nobody", fallback=True),
        pytest.warns(RuntimeWarning, match="reading the file itself"),
    ):
        assert torch.equal(safetensors.torch.load_file(path)["b"], WHOLE)
    with weightd.patch(path, fallback=True, socket_dir=tmp_path), pytest.raises(FileNotFoundError):
        safetensors.torch.load_file(path.with_name("missing.safetensors"))


@pytest.mark.parametrize(
    ("reason", "raised"),
    [
        ("MODEL_NOT_FOUND", FileNotFoundError),
        ("SOURCE_DENIED", PermissionError),
        ("NOT_ALLOWED", weightd.NotAllowedError),
        ("BUDGET_EXCEEDED", weightd.NoRoomError),
    ],
)
def test_patch_of_what_the_daemon_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, raised: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error(reason, "no")

    monkeypatch.setattr(weightd.safetensors, "attach", refuse)
    with weightd.patch(path), pytest.raises(raised):
        safetensors.torch.load_file(path)
    with weightd.patch(path, fallback=True), pytest.warns(RuntimeWarning, match="reading the file itself"):
        assert torch.equal(safetensors.torch.load_file(path)["b"], WHOLE)


def test_patch_needs_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIGHTD_PATCH_PATHS", raising=False)
    with pytest.raises(weightd.InvalidRequestError, match="without a path"):
        weightd.patch()


def test_transformers_under_patch(daemon: Daemon, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    plain = transformers.BertModel.from_pretrained(tmp_path / "bert")
    with weightd.patch(tmp_path / "bert", socket_dir=daemon.socket_dir):
        bert = transformers.BertModel.from_pretrained(tmp_path / "bert")
    assert all(is_shared(parameter) for parameter in bert.parameters())
    ids = torch.arange(10).reshape(2, 5)
    with torch.no_grad():
        assert torch.equal(bert(ids).last_hidden_state, plain(ids).last_hidden_state)
