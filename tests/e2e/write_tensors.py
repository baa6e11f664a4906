"""Writes tensorizer files with the tensorizer that is on the path: write_tensors.py FOLDER RELEASE.

Makes every file that this release can write, and `expected.json`: for each file its tensors by the name that it holds,
each with dtype, shape and the SHA-256 of its bytes. Run as a process of its own, one for each release.
"""

import collections
import hashlib
import json
import pathlib
import sys

import tensorizer
import torch

KEY = bytes(range(32))
PASSWORD = "correct horse"

NUMPY_TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64"]
OPAQUE_TYPES = ["bfloat16", "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
VERSION = tuple(int(part) for part in sys.argv[2].split(".")[:2]) if __name__ == "__main__" else ()

Expected = dict[str, list]


def tensor(dtype: str, shape: list[int], seed: int) -> torch.Tensor:
    """Random bytes as elements of that type."""
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(seed)
    if dtype == "bool":
        return torch.randint(0, 2, shape, generator=generator).bool()
    size = torch.empty(0, dtype=kind).element_size()
    raw = torch.randint(0, 256, [*shape, size], dtype=torch.uint8, generator=generator)
    return raw.view(kind).reshape(shape)


def described(value: torch.Tensor) -> list:
    """What a client must find."""
    if value.is_meta:
        raw = bytes(value.numel() * value.element_size())
    else:
        flat = value.detach().contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return [str(value.dtype).removeprefix("torch."), list(value.shape), hashlib.sha256(raw).hexdigest()]


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(37, 11)
        self.norm = torch.nn.BatchNorm1d(5)


class Outer(torch.nn.Module):
    """A tensor at the root, modules in modules, buffers, a big tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(3))
        self.inner = Inner()
        self.embedding = torch.nn.Embedding(3000, 257)


def module_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """By the names that tensorizer gives: one at the root begins with a dot."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name if "." in name else f".{name}": value for name, value in named.items()}


class Writer:
    """One folder of files."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.expected: dict[str, Expected] = {}

    def module(self, name: str, module: torch.nn.Module, **options: object) -> None:
        serializer = tensorizer.TensorSerializer(str(self.folder / name), **options)
        serializer.write_module(module)
        serializer.close()
        self.expected[name] = {key: described(value) for key, value in module_tensors(module).items()}

    def state_dict(self, name: str, tensors: object, stored: dict[str, torch.Tensor], **options: object) -> None:
        serializer = tensorizer.TensorSerializer(str(self.folder / name), **options)
        serializer.write_state_dict(tensors)
        serializer.close()
        self.expected[name] = {key: described(value) for key, value in stored.items()}


def numpy_tensors() -> dict[str, torch.Tensor]:
    """Each type, with sizes that leave what follows misaligned; a scalar, an empty one, odd names."""
    tensors = {f"t.{dtype}": tensor(dtype, [3, 5 + i], i) for i, dtype in enumerate(NUMPY_TYPES)}
    tensors["scalar"] = torch.tensor(4.5)
    tensors["empty"] = torch.empty([0, 3])
    tensors["line\nand \u00fcmlaut"] = tensor("float32", [7], 99)
    return tensors


def main() -> None:
    torch.manual_seed(1)
    writer = Writer(pathlib.Path(sys.argv[1]))
    writer.module("module.tensors", Outer())
    if hasattr(tensorizer.TensorSerializer, "write_state_dict"):
        plain = collections.OrderedDict(numpy_tensors())
        writer.state_dict("plain.tensors", plain, plain)
    if VERSION >= (2, 0):
        present = [dtype for dtype in OPAQUE_TYPES if VERSION >= (2, 9) or dtype == "bfloat16"]
        opaque = {dtype: tensor(dtype, [2, 9], i) for i, dtype in enumerate(present)}
        writer.state_dict("opaque.tensors", collections.OrderedDict(opaque), opaque)
    if VERSION >= (2, 7):
        key, password = tensorizer.EncryptionParams(key=KEY), tensorizer.EncryptionParams.from_string
        tensors = numpy_tensors()
        del tensors["empty"]  # which tensorizer can't encrypt
        big = tensor("float32", [1_700_000], 5)  # several pieces of 2 MiB
        tensors["big"] = big
        writer.state_dict("key.tensors", collections.OrderedDict(tensors), tensors, encryption=key)
        weak = password(PASSWORD, opslimit=1, memlimit=1 << 20)
        writer.state_dict("password.tensors", collections.OrderedDict(tensors), tensors, encryption=weak)
    if VERSION >= (2, 8):
        hollow = Outer()
        hollow.inner.linear.weight = torch.nn.Parameter(torch.empty([37, 11], device="meta"))
        writer.module("meta.tensors", hollow)
    if VERSION >= (2, 9):
        a, b, c = (tensor("float32", [4, i + 1], i) for i in range(3))
        nested = {"layers": [a, {"w": b}], "head.bias": c}
        stored = {'\x1e["layers",0]': a, '\x1e["layers",1,"w"]': b, "head.bias": c}
        writer.state_dict("nested.tensors", nested, stored)
    (writer.folder / "expected.json").write_text(json.dumps(writer.expected))


if __name__ == "__main__":
    main()
