"""What lies beside a model's weights: its config, its tokenizer, and the like."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from weightd._segment import map_sealed
from weightd.errors import Error, error
from weightd.v1 import handles_pb2, tensor_index_pb2


class ModelFiles(Mapping[str, bytes]):
    """A model's small files by their path in its folder ("config.json", "1_Pooling/config.json"). Thread-safe.

    Over one sealed, read-only mapping: a file is copied out of it when it is asked for. Good for as long as it is
    held, also after the model was closed.

    Attributes:
        left_out: Files that the folder has and weightd doesn't keep, and why.
    """

    left_out: Mapping[str, str]

    def __init__(self, index: tensor_index_pb2.TensorIndex, mapped: mmap.mmap | None) -> None:
        """Believes nothing that the index says. Raises InternalError."""
        self._model = index.model
        self._bytes = memoryview(mapped or b"")
        self._places: dict[str, slice] = {}
        left_out = {}
        for file in index.small_files:
            _check_name(file.name)
            if file.left_out:
                left_out[file.name] = file.left_out
                continue
            end = file.offset + file.nbytes
            if end > len(self._bytes):
                raise _broken(f"{file.name!r} ends at byte {end} of {len(self._bytes)}")
            if file.name in self._places:
                raise _broken(f"{file.name!r} is there twice")
            self._places[file.name] = slice(file.offset, end)
        for name in self._places:
            if any(str(parent) in self._places for parent in Path(name).parents):
                raise _broken(f"{name!r} lies in a file")
        self.left_out = left_out

    def __getitem__(self, name: str) -> bytes:
        """The file's bytes. Raises ModelFileNotFoundError (a KeyError), which says so if weightd doesn't keep it."""
        place = self._places.get(name)
        if place is not None:
            return bytes(self._bytes[place])
        message, hint = f"beside the model's weights is no file {name!r}", "list(model.files) says what is there"
        if name in self.left_out:
            message = f"weightd doesn't keep {name!r}: {self.left_out[name]}"
            hint = "read it where the model lies"
        elif not self._places:
            hint = "attach the folder that it lies in, not one of its weight files"
        raise error("FILE_NOT_FOUND", message, model=self._model, hint=hint)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<weightd.ModelFiles {list(self._places)}>"


class PrivateFolder:
    """A temporary folder of a model's files that only this user may enter. Belongs to the process that makes it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Writes them all, or leaves nothing behind. Raises NoRoomError."""
        self._owner = os.getpid()
        try:
            self.path = Path(tempfile.mkdtemp(prefix="weightd-"))
        except OSError as failure:
            raise _unwritten(failure) from failure
        try:
            for name in files:
                self._write(self.path / name, files[name])
        except BaseException as failure:
            self.remove()
            if isinstance(failure, OSError):
                raise _unwritten(failure) from failure
            raise

    def remove(self) -> None:
        """Removes it, if this process made it. Any number of times."""
        if os.getpid() == self._owner:
            shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)


def open_files(
    index: tensor_index_pb2.TensorIndex, found: Mapping[handles_pb2.Handle.Kind, tuple[int, int]]
) -> ModelFiles:
    """Maps what was claimed, of which `found` has descriptor and size by kind. The caller closes the descriptors."""
    descriptor, nbytes = found.get(handles_pb2.Handle.SMALL_FILES, (-1, 0))
    return ModelFiles(index, map_sealed(descriptor, nbytes, "small files") if nbytes else None)


def _check_name(name: str) -> None:
    """A name that leads nowhere but into the folder in which it is made."""
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise _broken(f"{name!r} is no path in a folder")


def _broken(message: str) -> Error:
    return error("INTERNAL", f"the model's small files: {message}", hint="this is a bug of the daemon")


def _unwritten(failure: OSError) -> Error:
    return error(
        "OUTPUT_NOT_WRITTEN",
        f"the model's files can't be written to a temporary folder: {failure.strerror}",
        hint="let TMPDIR name a folder that has room and may be written to",
    )
