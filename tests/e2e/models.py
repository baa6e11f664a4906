"""Weight files for tests: valid safetensors whose every 8 bytes tell their own position."""

import json
import pathlib
import struct

import numpy

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "F8_E4M3": 1, "BOOL": 1}
BLOCK = 1 << 20  # 8-byte words written at once


def words(seed: int, first: int, count: int) -> numpy.ndarray:
    """`count` 64-bit words of the endless pattern of `seed`, from word `first` on."""
    numbers = numpy.arange(first, first + count, dtype=numpy.uint64)
    return (numbers + numpy.uint64(seed << 40)) * numpy.uint64(0x9E3779B97F4A7C15)


def write_model(path: pathlib.Path, tensors: dict[str, tuple[str, list[int]]], seed: int = 1) -> pathlib.Path:
    """A safetensors file with these tensors (name: dtype, shape), back to back in the order given."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", "seed": str(seed)}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype] * int(numpy.prod(shape, dtype=numpy.int64))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        written = 0
        while written < offset:
            count = min(BLOCK, -(-(offset - written) // 8))
            file.write(words(seed, written // 8, count).tobytes()[: offset - written])
            written += 8 * count
    path.chmod(0o644)
    return path


def even_model(path: pathlib.Path, nbytes: int, count: int, seed: int = 1) -> pathlib.Path:
    """A file of `count` F32 tensors of one size, `nbytes` in all."""
    elements = nbytes // count // 4
    return write_model(path, {f"layer.{i}.weight": ("F32", [elements]) for i in range(count)}, seed)


def small_model(path: pathlib.Path, seed: int = 1) -> pathlib.Path:
    """A file with several dtypes, a scalar and an empty tensor, 2 MiB."""
    return write_model(
        path,
        {
            "embed.weight": ("F32", [256, 1024]),
            "layer.0.weight": ("BF16", [512, 512]),
            "layer.0.scale": ("F32", []),
            "layer.0.empty": ("F16", [0, 7]),
            "layer.1.weight": ("F16", [1024, 256]),
        },
        seed,
    )


def sharded_model(folder: pathlib.Path, shards: int) -> pathlib.Path:
    """A folder of weight files, two tensors each, with the index that names them."""
    weight_map = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        tensors = {f"layer.{i}.{part}": ("F32", [100 + i, 1000]) for part in ("a", "b")}
        write_model(folder / name, tensors, seed=i)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def expected(path: pathlib.Path) -> dict[str, bytes]:
    """The bytes of every tensor of a file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    begin = 8 + length
    return {
        name: raw[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]] for name, entry in header.items()
    }
