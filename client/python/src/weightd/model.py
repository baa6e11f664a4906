"""An attached model."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from weightd import _frameworks, _names
from weightd._device import DeviceSegment
from weightd._segment import HostSegment
from weightd.errors import Error, error
from weightd.files import ModelFiles, PrivateFolder
from weightd.tensors import TensorInfo, TensorTable
from weightd.v1 import tensor_index_pb2


class FileCheck(NamedTuple):
    """All bytes of a file were found to have this checksum."""

    file: str
    """Name, relative to the model's folder."""
    kind: str
    """"crc32", "crc32c", "crc64nvme" or "sha256"."""
    value: str
    """Hexadecimal digits; "-N" after them: the checksum of the checksums of N parts."""
    by: str
    """Who said so: "store", or "pin" (of the config or of a request)."""


class TensorChecks(NamedTuple):
    """How many tensors of tensorizer files were found to have the bytes that their file says, and by what.

    And how many of files that are encrypted with AES-CTR, which can't be found out of them.
    """

    crc32: int
    sha256: int
    poly1305: int
    """Decrypted and authenticated."""
    unverified: int
    """Nothing was verified: the file has no checksum of them, or none was wanted."""
    unauthenticated: int
    """Decrypted with AES-CTR, which doesn't show whether somebody changed the bytes."""


class Model:
    """A lease on one revision of a model, and its bytes, mapped. Made by `attach`. Thread-safe.

    Tensors are views of the mapped bytes: nothing is copied, and making one costs microseconds. Each has a storage of
    its own and keeps the mapping, and the lease, alive; `close` only drops the model's own hold. Writing to a tensor
    changes it in this process only, page by page, and costs that much private memory.

    After a fork both processes see the bytes; the lease stays the parent's. A child that must not depend on its parent
    attaches for itself.

    In a GPU's memory (`device` is not "cpu") the same holds, except: in mode "shared" a write to a tensor is a fatal
    fault of this process's CUDA, in mode "private" the memory is this process's own, without a lease; and a fork has
    no use of it.
    """

    def __init__(
        self,
        segment: HostSegment | DeviceSegment,
        index: tensor_index_pb2.TensorIndex,
        files: ModelFiles,
        framework: str,
        verification: tensor_index_pb2.Verification,
    ) -> None:
        self._segment: HostSegment | DeviceSegment | None = segment
        self._device = segment.device
        self._mode = segment.mode
        self._index = index
        self._files: ModelFiles | None = files
        self._folders: dict[int, PrivateFolder] = {}
        self._framework = framework
        # The grant tells of pins that held since the model was loaded; of very many files it says nothing.
        self._verification = verification if verification.files else index.verification
        self._builder: _frameworks.Builder | None = None
        self._tensors = TensorTable(index, on_gpu=isinstance(segment, DeviceSegment))

    @property
    def uri(self) -> str:
        """The model's URI as the daemon knows it, without credentials and query."""
        return self._index.model

    @property
    def revision(self) -> str:
        """Name of the immutable version that this is: 64 hexadecimal digits."""
        return self._index.revision

    @property
    def metadata(self) -> dict[str, str]:
        """Free text that the model's files carry (`__metadata__` in safetensors)."""
        return dict(self._index.metadata)

    @property
    def verified(self) -> list[FileCheck]:
        """What the daemon verified of the files' bytes; empty if nobody said what they have to be."""
        by = {tensor_index_pb2.FileCheck.STORE: "store", tensor_index_pb2.FileCheck.PIN: "pin"}
        return [
            FileCheck(check.file, check.kind, check.value, by.get(check.by, "unknown"))
            for check in self._verification.files
        ]

    @property
    def verified_tensors(self) -> TensorChecks:
        """What the daemon verified tensor by tensor; all 0 for formats without checksums of tensors."""
        checks = self._index.verification.tensors
        return TensorChecks(checks.crc32, checks.sha256, checks.poly1305, checks.unverified, checks.unauthenticated)

    @property
    def framework(self) -> str:
        """What the tensors are: "pt" (torch) or "np" (numpy)."""
        return self._framework

    @property
    def device(self) -> str:
        """Where the tensors are: "cpu", or a GPU as "cuda:0"."""
        return self._device

    @property
    def mode(self) -> str:
        """Whose writes are seen by whom.

        "private": they are this process's own (on the CPU, page by page). "shared": it must not write.
        """
        return self._mode

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name: dtype, shape, nbytes, offset."""
        return self._tensors

    @property
    def files(self) -> ModelFiles:
        """What lies beside the weights of a model that is a folder (config.json, tokenizer.json, …): bytes by name.

        Empty for a model that is one weight file.
        """
        files = self._files
        if files is None:
            raise self._closed()
        return files

    def directory(self) -> Path:
        """A private temporary folder with all of `files`, for libraries that want paths. Holds no weights.

        Made at the first call, and removed with the model: when it is closed or dropped, or the process ends. A child
        of a fork gets one of its own. Raises ModelFileNotFoundError if there are no files, NoRoomError if they can't
        be written.
        """
        files, process = self.files, os.getpid()
        if not files:
            hint = "attach the folder that the model's config lies in"
            raise error("FILE_NOT_FOUND", "no files lie beside the model's weights", model=self.uri, hint=hint)
        folder = self._folders.get(process)
        if folder is None:
            made = PrivateFolder(files)
            # Without a lock, which a fork could copy in its locked state: who comes second gives way.
            folder = self._folders.setdefault(process, made)
            if folder is made:
                weakref.finalize(self, made.remove)
            else:
                made.remove()
        return folder.path

    def __getitem__(self, name: str) -> Any:
        """The tensor of that name, over the mapped bytes. Raises TensorNotFoundError (a KeyError)."""
        info = self._tensors[name]
        segment = self._open_segment()
        return self._build(segment)(segment.part(info), info)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def keys(self) -> list[str]:
        """The tensors' names; with `model[name]` this makes dict(model) work."""
        return list(self._tensors)

    def raw(self, name: str) -> Any:
        """The tensor's bytes as they are in the file. For every dtype; needs no framework.

        A read-only memoryview; on a GPU DeviceBytes, which have `__cuda_array_interface__`, `pointer` and `nbytes`.
        """
        info = self._tensors[name]
        return self._open_segment().raw(info)

    def state_dict(self) -> Any:
        """All tensors by name, for load_state_dict(…, assign=True) or from_pretrained(None, state_dict=…).

        A state dict that was nested when tensorizer wrote it is nested again (a list, if it was one). Tied weights,
        which safetensors' save_model stores once, are one tensor under each of their names.

        For training, or whatever else writes to parameters, on a GPU: attach with mode="private".
        """
        segment = self._open_segment()
        build, part = self._build(segment), segment.part
        with _collector_paused():
            tensors = {name: build(part(info), info) for name, info in self._tensors.rows()}
        for alias, kept in _names.aliases(self._index.metadata, tensors).items():
            tensors[alias] = tensors[kept]
        return _names.state_dict(tensors, self.uri)

    def get_sharded(self, name: str, dim: int, rank: int, world: int) -> Any:
        """Part `rank` of `world` equal parts of a tensor along `dim`, without a copy.

        Along dim 0 a part is contiguous and has a storage of its own, as every tensor here; along another it is a
        strided view of the whole tensor, which `.contiguous()` copies.

        Raises:
            Error: The tensor can't be divided so (InvalidRequestError), or is not there (TensorNotFoundError).
        """
        info = self._tensors[name]
        where = dim + len(info.shape) if dim < 0 else dim
        _check_division(self.uri, name, info, (dim, where), rank, world)
        if where:
            whole = self[name]
            part = whole.shape[where] // world  # of pairs, where torch counts those
            return whole[(slice(None),) * where + (slice(rank * part, (rank + 1) * part),)]
        segment = self._open_segment()
        nbytes = info.nbytes // world
        shape = (info.shape[0] // world, *info.shape[1:])
        rows = info._replace(shape=shape, nbytes=nbytes, offset=info.offset + rank * nbytes)
        return self._build(segment)(segment.part(rows), rows)

    def close(self) -> None:
        """Gives the model up. The lease ends now, or when the last tensor dies that is still in use."""
        self._segment = None
        self._files = None
        for process in list(self._folders):
            if folder := self._folders.pop(process, None):
                folder.remove()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._segment is None else f"{self._framework} on {self._device}"
        return f"<weightd.Model {self.uri} {self.revision[:12]} {len(self)} tensors, {state}>"

    def __reduce__(self) -> Any:
        """Refuses to be pickled and copied."""
        hint = "attach in the other process, which copies nothing; or send tensors, whose bytes are copied"
        raise error("UNSUPPORTED", "a model can't be pickled or copied", model=self.uri, hint=hint)

    def _open_segment(self) -> HostSegment | DeviceSegment:
        segment = self._segment
        if segment is None:
            raise self._closed()
        return segment

    def _closed(self) -> Error:
        return error("MODEL_CLOSED", "the model was closed", model=self.uri, hint="attach it again")

    def _build(self, segment: HostSegment | DeviceSegment) -> _frameworks.Builder:
        build = self._builder
        if build is None:
            build = self._builder = segment.builder(self._framework)
        return build


def _check_division(
    model: str, name: str, info: TensorInfo, dims: tuple[int, int], rank: int, world: int
) -> None:
    """Whether there is such a part."""
    given, dim = dims
    if not 0 <= dim < len(info.shape):
        what = f"dim {given} of tensor {name!r}, whose shape is {list(info.shape)}"
        raise error("INVALID_ARGUMENT", what, model=model, hint="count dims from 0, or from the last as -1")
    if world < 1 or not 0 <= rank < world:
        raise error("INVALID_ARGUMENT", f"rank {rank} of world {world}", model=model, hint="ranks are 0 to world - 1")
    # Types of less than a byte, of which torch holds two a byte along the last dim.
    units = info.shape[dim] // 2 if info.dtype == "F4" and dim == len(info.shape) - 1 else info.shape[dim]
    if units % world or info.nbytes % world:
        what = f"tensor {name!r} has {info.shape[dim]} rows along dim {given}, which are not {world} equal parts"
        raise error("INVALID_ARGUMENT", what, model=model, hint="slice model[name] as the parts should be")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Making many objects starts garbage collections; one walks all that torch's import made (80 ms), in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
