"""What a model's tensors are, without any framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from weightd import _names
from weightd.errors import error
from weightd.v1 import tensor_index_pb2

# Bits of one element.
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
    "C32": 32,
    "C128": 128,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}


class TensorInfo(NamedTuple):
    """One tensor as it lies in the segment, C-contiguous.

    Attributes:
        dtype: Element type as safetensors names it, such as "BF16".
        shape: Extents, outermost first; () for a scalar. Of elements, also for the 4- and 6-bit types.
        nbytes: Size in bytes.
        offset: First byte, counted from the segment's first.
        torch_type: torch's name ("bits16") of an element type that safetensors has no name for; `dtype` is then an
            integer of the same size. Else empty.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    offset: int
    torch_type: str = ""


class TensorTable(Mapping[str, TensorInfo]):
    """The tensors by name, in the daemon's order (by name). Each is checked when it is first looked at.

    A tensor of a module itself, which tensorizer calls ".weight", is also found as "weight", and a tied weight, which
    safetensors' save_model stores once, by each of its names.

    Holds the daemon's message and nothing per tensor, so that it costs nothing to have one of 100,000 tensors.
    """

    def __init__(self, index: tensor_index_pb2.TensorIndex, *, on_gpu: bool = False) -> None:
        self._pieces = index.layout.pieces
        self._on_gpu = on_gpu
        self._segment_bytes = index.device_bytes if on_gpu else index.segment_bytes
        self._metadata = dict(index.metadata)
        self._model = index.model
        self._dtypes: dict[int, str] = {n: name for name, n in tensor_index_pb2.DType.items()}
        self._positions: dict[str, int] | None = None

    def __getitem__(self, name: str) -> TensorInfo:
        position = self._find(name)
        if position is None:
            raise error("TENSOR_NOT_FOUND", f"the model has no tensor {name!r}", model=self._model)
        return self._checked(self._pieces[position])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._pieces)

    def rows(self) -> Iterator[tuple[str, TensorInfo]]:
        """As items(), without looking each name up."""
        checked = self._checked
        for piece in self._pieces:
            yield piece.name, checked(piece)

    def _find(self, name: str) -> int | None:
        positions = self._by_name()
        position = positions.get(name, positions.get(f".{name}"))
        if position is None:
            kept = _names.kept_name(name, self._metadata, positions)
            position = None if kept is None else positions[kept]
        return position

    def _by_name(self) -> dict[str, int]:
        if self._positions is None:
            # Two threads may both do this; either result is good.
            positions = {piece.name: i for i, piece in enumerate(self._pieces)}
            if len(positions) != len(self._pieces):
                raise error(
                    "UNSUPPORTED",
                    "the model's layout holds tensors in several pieces",
                    model=self._model,
                    hint="update the weightd package",
                )
            self._positions = positions
        return self._positions

    def _checked(self, piece: tensor_index_pb2.TensorPiece) -> TensorInfo:
        """The piece, proven to lie within the segment and to be as large as its shape says."""
        dtype = self._dtypes.get(piece.dtype, "")
        bits = _BITS.get(dtype)
        if bits is None or piece.strides:
            raise error(
                "UNSUPPORTED",
                f"tensor {piece.name!r} has a type or strides that this package doesn't know",
                model=self._model,
                hint="update the weightd package",
            )
        offset = piece.device_offset if self._on_gpu else piece.offset
        info = TensorInfo(dtype, tuple(piece.shape), piece.nbytes, offset, piece.torch_type)
        fits = info.offset + info.nbytes <= self._segment_bytes
        if prod(info.shape) * bits != info.nbytes * 8 or not fits:
            raise error(
                "INTERNAL",
                f"tensor {piece.name!r} does not fit: {info}, segment of {self._segment_bytes} bytes",
                model=self._model,
                hint="this is a bug of the daemon",
            )
        return info
