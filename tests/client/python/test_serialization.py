"""What save_file writes, read by the formats' own packages."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
import weightd
from weightd import _entries, _tensorizer_file
from weightd.serialization import save_file

from conftest import PATIENCE, ROOT

Python = Callable[..., "subprocess.CompletedProcess[str]"]

PLAIN = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
PLAIN += ["float16", "float32", "float64", "complex64"]
SMALL = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
SMALL += ["float4_e2m1fn_x2"]

READ = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
import tensorizer, torch

def described(value):
    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return [str(value.dtype), list(value.shape), hashlib.sha256(raw).hexdigest()]
    items = value.items() if hasattr(value, "items") else enumerate(value)
    return {str(key): described(inner) for key, inner in items}

with tensorizer.TensorDeserializer(sys.argv[2], device="cpu", verify_hash=True) as found:
    print(json.dumps(described(found)))
"""


def described(value: Any) -> Any:
    """What READ prints."""
    if isinstance(value, torch.Tensor):
        value = torch.zeros(value.shape, dtype=value.dtype) if value.is_meta else value
        flat = value.detach().contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return [str(value.dtype), list(value.shape), hashlib.sha256(raw).hexdigest()]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {str(key): described(inner) for key, inner in items}


def read_by_tensorizer(python: Python, path: Path) -> Any:
    folder = ROOT / ".venv/tensorizer/2.12.1"
    assert folder.is_dir(), "run deploy/install_deps.sh: it fetches tensorizer's releases"
    done = python(READ, folder, path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def random(dtype: str, shape: tuple[int, ...] = (3, 5)) -> torch.Tensor:
    """Random bytes as elements of that type."""
    generator = torch.Generator().manual_seed(len(dtype))
    kind = getattr(torch, dtype)
    raw = torch.randint(
        0, 2 if dtype == "bool" else 256, (*shape, torch.empty(0, dtype=kind).element_size()), generator=generator
    )
    return raw.to(torch.uint8).view(kind).reshape(shape)


def of_types(dtypes: list[str]) -> dict[str, torch.Tensor]:
    tensors = {f"t.{dtype}": random(dtype) for dtype in dtypes}
    tensors["scalar"] = torch.tensor(4.5)
    tensors["line\nand \u00fcmlaut \U0001f600"] = random("float32", (7,))
    return tensors


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# safetensors.


def test_safetensors_are_what_its_own_package_writes(tmp_path: Path) -> None:
    tensors = of_types(PLAIN + SMALL) | {"empty": torch.empty((0, 3), dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "ours.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_a_module_ties_as_save_model_says(tmp_path: Path) -> None:
    network = torch.nn.ModuleDict({"a": torch.nn.Linear(5, 7, bias=False), "b": torch.nn.Linear(5, 7, bias=False)})
    network["b"].weight = network["a"].weight
    save_file(network, tmp_path / "ours.safetensors", metadata={})
    safetensors.torch.save_model(network, str(tmp_path / "theirs.safetensors"))
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_views_are_stored_as_what_they_are(tmp_path: Path) -> None:
    whole = random("float32", (6, 8))
    tensors = {"whole": whole, "rows": whole[2:4], "turned": whole.t(), "wide": whole[0].expand(3, 8)}
    tensors["again"] = whole[2:4]
    tensors["conjugate"] = random("complex64").conj()
    save_file(tensors, tmp_path / "m.safetensors")
    found = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert found.keys() == tensors.keys() - {"rows"}
    for name, tensor in found.items():
        assert described(tensor) == described(tensors[name].resolve_conj()), name
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "rows": "again"}


def test_large_tensors_that_lie_otherwise_are_copied_in_parts(tmp_path: Path) -> None:
    turned = torch.arange(2 * 70_000_000, dtype=torch.int32).to(torch.uint8).reshape(2, -1).t()
    assert not turned.is_contiguous()
    save_file({"t": turned, "one_row": turned[None, 1:]}, tmp_path / "m.safetensors")
    found = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert torch.equal(found["t"], turned)
    assert torch.equal(found["one_row"], turned[None, 1:])


def test_what_is_named_like_metadata_is_a_tensor_of_its_own(tmp_path: Path) -> None:
    tensor = torch.arange(3)
    save_file(dict.fromkeys(("a", "author", "format"), tensor), tmp_path / "m.safetensors", metadata={"author": "me"})
    assert safetensors.torch.load_file(tmp_path / "m.safetensors").keys() == {"a", "author", "format"}


def test_metadata_that_has_the_aliases_already(tmp_path: Path) -> None:
    tensor = torch.arange(3)
    for metadata in ({"b": "a", "format": "pt"}, {"a": "b", "format": "pt"}):
        save_file({"a": tensor, "b": tensor}, tmp_path / "m.safetensors", metadata=metadata)
        with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
            assert list(file.keys()) == ["a"]
            assert file.metadata() == {**metadata, "b": "a"}


# tensorizer.


@pytest.mark.parametrize(
    ("version", "tensors"),
    [
        (1, of_types(PLAIN) | {"empty": torch.empty((0, 3))}),
        (2, of_types([*PLAIN, *SMALL, "complex32", "complex128"])),
        (2, {"a": random("bfloat16").t(), "b": random("bfloat16", (9, 9))[::2, ::3]}),
        (4, {"hollow": torch.empty((3, 4), device="meta"), "full": random("bfloat16")}),
        (5, {"a": random("bfloat16"), "long": torch.empty((2**32, 0)), "z": random("int16")}),
    ],
)
def test_tensorizer_reads_every_version(
    python: Python, tmp_path: Path, version: int, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "m.tensors"
    save_file(tensors, path)
    assert path.read_bytes()[5:9] == version.to_bytes(4, "little")
    assert read_by_tensorizer(python, path) == described(tensors)


def test_tensorizer_reads_modules(python: Python, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    module.register_parameter("scale", torch.nn.Parameter(torch.ones(2)))
    module.register_buffer("hidden", torch.ones(3), persistent=False)
    save_file(module, tmp_path / "m.tensors")
    state = {name if "." in name else f".{name}": value for name, value in module.state_dict().items()}
    state[".hidden"] = module.hidden
    assert read_by_tensorizer(python, tmp_path / "m.tensors") == described(state)
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorizer, torch
module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
with tensorizer.TensorDeserializer(sys.argv[2], device="cpu", verify_hash=True) as found:
    print(found.load_into_module(module), module.hidden.sum().item(), isinstance(module.scale, torch.nn.Parameter))
"""
    done = python(script, ROOT / ".venv/tensorizer/2.12.1", tmp_path / "m.tensors")
    assert done.stdout == "9 3.0 True\n", done.stderr


def test_tensorizer_reads_nested_state_dicts(python: Python, tmp_path: Path) -> None:
    nested = {"layers": [random("int8"), {"w\u00e4\n": random("float16")}, ()], "head.bias": random("float32")}
    save_file(nested, tmp_path / "m.tensors")
    expected = described({**nested, "layers": nested["layers"][:2]})
    assert read_by_tensorizer(python, tmp_path / "m.tensors") == expected
    save_file([random("int8")], tmp_path / "list.tensors")
    assert read_by_tensorizer(python, tmp_path / "list.tensors") == described([random("int8")])


def test_tensorizer_reads_more_tensors_than_it_can_write(python: Python, tmp_path: Path) -> None:
    tensors = {f"tensor.{i}": torch.tensor([i]) for i in range(9000)}
    save_file(tensors, tmp_path / "m.tensors")
    content = (tmp_path / "m.tensors").read_bytes()
    assert int.from_bytes(content[65:73], "little") % 4096 == 0
    assert read_by_tensorizer(python, tmp_path / "m.tensors") == described(tensors)


PARAMETER = _entries.Entry("a.w", torch.tensor([1.0, 2.0]), _entries.Kind.PARAMETER, 3)
OPAQUE = _entries.Entry('\x1e["k",0]', torch.tensor([1.0], dtype=torch.bfloat16))
HOLLOW = _entries.Entry("m", torch.empty((2, 2), device="meta"), _entries.Kind.PARAMETER)


@pytest.mark.parametrize(
    ("golden", "entry", "metadata_bytes"),
    [("v1", PARAMETER, 64), ("v2", OPAQUE, 96), ("v4_meta", HOLLOW, 64)],
)
def test_golden_bytes(tmp_path: Path, golden: str, entry: _entries.Entry, metadata_bytes: int) -> None:
    with (tmp_path / "m.tensors").open("wb") as file:
        _tensorizer_file.plan([entry], metadata_bytes).write(file)
    expected = (ROOT / f"tests/daemon/format/golden/{golden}.tensors").read_bytes()
    assert (tmp_path / "m.tensors").read_bytes() == expected


# What can't be written, and what stays of it.


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("m.bin", {}, "'m.bin' is no name of a weight file"),
        (".safetensors", {}, "no name of a weight file"),
        ("m.safetensors", 5, "a int"),
        ("m.safetensors", {"a": {"b": torch.ones(1)}}, "the dict 'a'"),
        ("m.safetensors", {"a": 5}, "['a'], a int,"),
        ("m.safetensors", {5: torch.ones(1)}, "the key 5"),
        ("m.safetensors", {"": torch.ones(1)}, "empty name"),
        ("m.safetensors", {"a": torch.ones(1, dtype=torch.complex128)}, "'a', torch.complex128"),
        ("m.safetensors", {"a": torch.ones(1, device="meta")}, "'a' is a meta tensor"),
        ("m.safetensors", {"__metadata__": torch.ones(1)}, "__metadata__"),
        ("m.safetensors", {"a\udc00": torch.ones(1)}, "not Unicode"),
        ("m.safetensors", {"a": torch.ones(3).to_sparse()}, "'a' is sparse_coo"),
        ("m.safetensors", {"a": torch.nested.as_nested_tensor([torch.ones(1), torch.ones(2)])}, "'a' is nested"),
        ("m.tensors", {"a": [torch.ones(1), {"b": "text"}]}, "['a'][1]['b'], a str,"),
        ("m.tensors", {'\x1e["a"]': torch.ones(1)}, "the name"),
        ("m.tensors", {"n" * 70_000: torch.ones(1)}, "65535"),
        ("m.tensors", {"a": torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8)}, "'a' is quantized"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(tmp_path: Path, name: str, source: Any, said: str) -> None:
    with pytest.raises(weightd.InvalidRequestError) as raised:
        save_file(source, tmp_path / name)
    assert said in raised.value.message
    assert raised.value.hint
    assert leftovers(tmp_path) == []


def test_freed_storage_is_refused(tmp_path: Path) -> None:
    tensor = torch.ones(1000)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(weightd.InvalidRequestError, match="'t'"):
        save_file({"t": tensor}, tmp_path / "m.safetensors")


def test_metadata_has_no_place_in_tensorizer_files(tmp_path: Path) -> None:
    with pytest.raises(weightd.InvalidRequestError, match="no place for metadata"):
        save_file({"t": torch.ones(1)}, tmp_path / "m.tensors", metadata={"a": "b"})


@pytest.mark.parametrize("suffix", ["safetensors", "tensors"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, python: Python, suffix: str) -> None:
    target = tmp_path / f"m.{suffix}"
    target.write_text("before")
    script = """
import errno, resource, signal, sys, torch
from weightd.serialization import save_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    save_file({"t": torch.ones(1 << 20), "u": torch.ones(1)}, sys.argv[1])
except OSError as failure:
    print(errno.errorcode[failure.errno])
"""
    assert python(script, target).stdout == "EFBIG\n"
    assert target.read_text() == "before"
    assert leftovers(tmp_path) == [target.name]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    tensors = {"t": torch.ones(1)}
    with pytest.raises(FileNotFoundError, match="none"):
        save_file(tensors, tmp_path / "none" / "m.safetensors")
    (tmp_path / "folder.tensors").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        save_file(tensors, tmp_path / "folder.tensors")
    with pytest.raises(weightd.InvalidRequestError, match="nothing can be written to http"):
        save_file(tensors, "http://host/m.safetensors")
    assert leftovers(tmp_path) == ["folder.tensors"]


@pytest.mark.parametrize("suffix", ["safetensors", "tensors"])
def test_a_kill_in_the_middle_leaves_no_target(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"m.{suffix}"
    # Stops itself where a tensor's bytes are asked for when others are already written.
    script = """
import os, signal, sys, torch
from weightd import _blocks
from weightd.serialization import save_file
given, count = _blocks.blocks, 0
def blocks(tensor):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return given(tensor)
_blocks.blocks = blocks
save_file({name: torch.ones(1 << 20) for name in "abcde"}, sys.argv[1])
"""
    done = subprocess.run([sys.executable, "-c", script, str(target)], timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    save_file({"t": torch.ones(3)}, target)
    assert target.exists()


def test_targets_may_be_file_uris_and_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "my model.safetensors"
    for value in (1, 2):
        save_file({"t": torch.tensor(value)}, path.as_uri())
        assert safetensors.torch.load_file(path)["t"] == value
    assert leftovers(tmp_path) == [path.name]


def test_without_torch_the_error_says_so(tmp_path: Path, python: Python) -> None:
    script = """
import sys
sys.modules["torch"] = None
import weightd
from weightd.serialization import save_file
try:
    save_file({}, sys.argv[1])
except weightd.InvalidRequestError as failure:
    print(failure)
"""
    done = python(script, tmp_path / "m.tensors")
    assert "writing models needs torch" in done.stdout, done.stderr
    assert "pip install torch" in done.stdout
