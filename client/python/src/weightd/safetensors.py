"""safetensors' `safe_open` and `load_file` over the daemon's bytes, with the library's own behaviour and errors.

    from weightd.safetensors import load_file, safe_open

    with safe_open("/models/bert/model.safetensors", framework="pt") as file:
        weight = file.get_tensor("embeddings.weight")  # a view of the node's one copy

What differs: the file may also be a URI or an alias of the daemon; nothing is read from a disk that this process sees;
frameworks are torch and numpy; numpy gives bfloat16 and 8-bit floats if ml_dtypes is installed, and takes slices that
the library refuses. A write to a tensor changes it in this process only, as in the library. On a GPU tensors are
copies of this process's own, as in the library, unless mode="shared" is given. Errors of the daemon that no file has
(it is not there, it has no room) are weightd.Error.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from weightd._attach import attach
from weightd.errors import MalformedModelError, NotFoundError, SourceError
from weightd.model import Model
from weightd.tensors import TensorInfo

if TYPE_CHECKING:

    class SafetensorError(Exception):
        """What is wrong with a file, or with how it is used; the library's class if it is installed."""

else:
    try:
        from safetensors import SafetensorError
    except ImportError:

        class SafetensorError(Exception):
            """What is wrong with a file, or with how it is used; the library's class if it is installed."""


__all__ = ["SafeSlice", "SafetensorError", "load_file", "safe_open"]

_FRAMEWORKS = {"pt": "pt", "torch": "pt", "pytorch": "pt", "np": "np", "numpy": "np"}
_BACKENDS = ("mmap", "pread")


class safe_open:
    """An open file. Not thread-safe where the library isn't: `__exit__` beside other calls.

    Args:
        filename: A path, or what `weightd.attach` takes: a URI or an alias. A str without "://" is a path if it has a
            "/" or ends in ".safetensors", else an alias.
        framework: "pt" (also "torch", "pytorch") or "np" (also "numpy").
        device: "cpu", "cuda", "cuda:N" or N.
        backend: "mmap" or "pread"; without effect.
        socket_dir: As `weightd.attach` has it.
        timeout: Seconds, as `weightd.attach` has it.
        mode: Of tensors on a GPU: "private", or "shared" (read-only), as `weightd.attach` has it.

    Raises:
        FileNotFoundError: The daemon finds no such file.
        SafetensorError: It is malformed, or an argument is none that there is.
        weightd.Error: The daemon can't be reached, or refuses.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str,
        device: str | int = "cpu",
        *,
        backend: str = "mmap",
        socket_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        mode: str = "private",
    ) -> None:
        name = os.fspath(filename) if isinstance(filename, os.PathLike) else filename
        if not isinstance(name, str):
            raise _wrong_type("filename", name)
        if not isinstance(framework, str):
            raise _wrong_type("framework", framework)
        kind = _FRAMEWORKS.get(framework)
        if kind is None:
            raise SafetensorError(f"framework {framework} is invalid")
        if backend not in _BACKENDS:
            raise SafetensorError(f'backend "{backend}" is invalid (expected one of: "mmap", "pread")')
        place = _device(device)
        if kind == "np" and place != "cpu":
            raise SafetensorError(f"Device {place} is not supported for framework numpy")
        self._model: Model | None = _opened(name, _uri(name, filename), place, kind, socket_dir, timeout, mode)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the file; tensors stay good."""
        model, self._model = self._model, None
        if model is not None:
            model.close()

    def keys(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._open().tensors)

    def offset_keys(self) -> list[str]:
        """The tensors' names as their bytes lie in the file."""
        tensors = self._open().tensors
        # A tensor without bytes begins where the next one does.
        return sorted(tensors, key=lambda name: (tensors[name].offset, tensors[name].nbytes, name))

    def metadata(self) -> dict[str, str] | None:
        """The file's free text; None if it has none."""
        return self._open().metadata or None

    def get_tensor(self, name: str) -> Any:
        """The tensor of that name, over the mapped bytes."""
        model = self._open()
        self._info(name)
        return model[name]

    def get_tensors(self) -> dict[str, Any]:
        """All of them, as their bytes lie in the file."""
        model = self._open()
        return {name: model[name] for name in self.offset_keys()}

    def get_slice(self, name: str) -> SafeSlice:
        """The tensor of that name, to be taken in part."""
        info, model = self._info(name), self._open()
        return SafeSlice(info, model[name], is_numpy=model.framework == "np")

    def _open(self) -> Model:
        if self._model is None:
            raise SafetensorError("File is closed")
        return self._model

    def _info(self, name: str) -> TensorInfo:
        if not isinstance(name, str):
            raise _wrong_type("name", name)
        info = self._open().tensors.get(name)
        if info is None:
            raise SafetensorError(f"File does not contain tensor {name}")
        return info


class SafeSlice:
    """A tensor to be taken in part. The part is a view where the framework makes one."""

    def __init__(self, info: TensorInfo, tensor: Any, *, is_numpy: bool) -> None:
        self._info = info
        self._tensor = tensor
        self._is_numpy = is_numpy

    def get_shape(self) -> list[int]:
        """The whole tensor's extents."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """Its element type, as safetensors names it: "F32"."""
        return self._info.dtype

    def __getitem__(self, index: Any) -> Any:
        """As the framework indexes a tensor; of numpy always an array, and SafetensorError for what it refuses."""
        if not self._is_numpy:
            return self._tensor[index]
        try:
            part = self._tensor[index]
        except (IndexError, ValueError) as failure:
            raise SafetensorError(f"Error during slicing: {failure}") from failure
        return part.__array__()  # numpy's scalars are no arrays


def load_file(
    filename: str | os.PathLike[str],
    device: str | int = "cpu",
    *,
    backend: str = "mmap",
    socket_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    mode: str = "private",
) -> dict[str, Any]:
    """All tensors of a file, of torch, as `safetensors.torch.load_file` has them. Arguments are `safe_open`'s."""
    options: dict[str, Any] = {"backend": backend, "socket_dir": socket_dir, "timeout": timeout, "mode": mode}
    with safe_open(filename, "pt", device, **options) as file:
        return file.get_tensors()


def _opened(
    name: str,
    uri: str,
    device: str,
    framework: str,
    socket_dir: str | os.PathLike[str] | None,
    timeout: float | None,
    mode: str,
) -> Model:
    try:
        model = attach(uri, socket_dir, device, framework, timeout, mode="shared" if device == "cpu" else mode)
    except NotFoundError as failure:
        raise FileNotFoundError(f"No such file or directory: {name}") from failure
    except MalformedModelError as failure:
        raise SafetensorError(f"Error while deserializing header: {failure}") from failure
    except SourceError as failure:
        if failure.reason == "SOURCE_DENIED":
            raise PermissionError(f"{name}: {failure}") from failure
        raise
    return model


def _uri(name: str, filename: object) -> str:
    is_path = isinstance(filename, os.PathLike) or "/" in name or name.endswith(".safetensors")
    return Path(name).absolute().as_uri() if is_path and "://" not in name else name


def _device(device: object) -> str:
    """As torch calls it."""
    if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        return f"cuda:{device}"
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        if device == "cpu" or (kind == "cuda" and (device == "cuda" or number.isdecimal())):
            return "cuda:0" if device == "cuda" else device
    shown = device if isinstance(device, str) else repr(device)
    raise SafetensorError(f"device {shown} is invalid")


def _wrong_type(argument: str, value: object) -> TypeError:
    return TypeError(f"argument '{argument}': '{type(value).__name__}' object is not an instance of 'str'")
