"""A model's tensors as tensorizer's users read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from weightd import _into_module, _names
from weightd._attach import attach
from weightd.errors import error
from weightd.model import Model

if TYPE_CHECKING:
    import torch

# Whether a tensor is wanted, by its name; in a nested state dict by its keys and positions, as a tuple.
Filter = Callable[[Any], object]


class Deserializer(Mapping[Any, Any]):
    """The tensors of a model on this node, by the names of a state dict. Thread-safe, as `weightd.Model` is.

    Nothing is copied: the tensors are views of memory that all processes of the node share, and a write to one is
    private to this process. They stay good after `close`; the lease ends when the last of them died. On a GPU they are
    by default a copy of this process's own, which it may write to.

    A nested state dict is a mapping of its outermost layer (by position, if that is a list); below are dicts and lists.
    Tied weights that a safetensors file stores once are there under each of their names.
    """

    def __init__(
        self,
        uri: str,
        *,
        filter_func: Filter | None = None,
        socket_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        sha256: str | Mapping[str, str] | None = None,
        device: str | None = "cpu",
        mode: str = "private",
        cuda_driver: str | os.PathLike[str] | None = None,
    ) -> None:
        """Attaches to the model, and waits until the daemon has it.

        Args:
            uri: The model, as for `weightd.attach`.
            filter_func: Given a name, says whether that tensor is to be found here.
            socket_dir: As for `weightd.attach`.
            timeout: As for `weightd.attach`.
            sha256: As for `weightd.attach`.
            device: As for `weightd.attach`.
            mode: As for `weightd.attach`, but "private" by default: a module may write to its parameters, and on a GPU
                that is fatal in mode "shared", which is for modules that only infer.
            cuda_driver: As for `weightd.attach`.

        Raises:
            Error: As `weightd.attach`.
        """
        self._model: Model = attach(
            uri,
            socket_dir,
            device,
            framework="pt",
            timeout=timeout,
            sha256=sha256,
            mode=mode,
            cuda_driver=cuda_driver,
        )
        stored = dict.fromkeys(self._model)
        self._is_nested = _names.is_nested(stored)
        # What the tensors are called here -> in the file.
        names = {name if self._is_nested else _names.short(name, stored): name for name in stored}
        names |= _names.aliases(self._model.metadata, stored)
        self._names = {name: kept for name, kept in names.items() if not filter_func or filter_func(_names.path(name))}
        # Of a nested state dict, until this is closed.
        self._layers = self._outermost_layers() if self._is_nested else None
        self._keys: Mapping[Any, Any] = self._names if self._layers is None else dict.fromkeys(self._layers)

    @property
    def model(self) -> Model:
        """The attached model, with its revision, metadata and what was verified."""
        return self._model

    def __getitem__(self, name: Any) -> Any:
        """The tensor of that name, or what a nested state dict has there. Raises TensorNotFoundError (a KeyError).

        A tensor of a module itself is found as "weight" and as ".weight", which tensorizer calls it.
        """
        if name not in self._keys and isinstance(name, str):
            name = name.removeprefix(".")
        if name not in self._keys:
            raise error("TENSOR_NOT_FOUND", f"the model has no tensor {name!r}", model=self._model.uri)
        if not self._is_nested:
            return self._model[self._names[name]]
        layers = self._layers
        if layers is None:
            raise error("MODEL_CLOSED", "the model was closed", model=self._model.uri, hint="open it again")
        return layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def tree(self) -> Any:
        """All tensors by name, in new dicts and lists: nested as they were when tensorizer wrote them."""
        tensors = {kept: self._model[kept] for kept in self._names.values()}
        named = {name: tensors[kept] for name, kept in self._names.items()}
        return _names.state_dict(named, self._model.uri)

    def load_into_module(
        self, module: torch.nn.Module, filter_func: Filter | None = None, *, strict: bool = True
    ) -> int:
        """Makes the model's tensors the module's parameters and buffers, without a copy.

        They take the place of what the module has, with the type that the file has; a module on the meta device is the
        cheapest to begin with. Where the module's tensor is on another GPU than the model's, the model's is copied
        there. Weights that the module ties stay tied, also if the file has only one of their names.

        Args:
            module: Is changed, in part also when this raises. Nobody else may use it meanwhile.
            filter_func: Given a name, says whether that tensor is to be loaded.
            strict: Whether to raise if a tensor has no place in the module, or if the module has a parameter or
                persistent buffer that `filter_func` doesn't reject and the model doesn't have.

        Returns:
            The number of names that found their place.

        Raises:
            Error: The model and the module don't fit (InvalidRequestError), or this was closed (ClosedError).
        """
        if self._is_nested:
            hint = "use tree(), and load what belongs to the module with load_state_dict(…, assign=True)"
            raise error("UNSUPPORTED", "a nested state dict has no place in a module", model=self._model.uri, hint=hint)
        wanted = filter_func or (lambda _: True)
        tensors = {name: self._model[kept] for name, kept in self._names.items() if wanted(name)}
        return _into_module.load(module, tensors, wanted if strict else None, self._model.uri).loaded

    def close(self) -> None:
        """Gives the model up. Its memory goes when the last tensor dies that is still in use."""
        self._layers = None
        self._model.close()

    def __enter__(self) -> Deserializer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<weightd.Deserializer of {self._model!r}>"

    def _outermost_layers(self) -> Mapping[Any, Any]:
        layer = self.tree()
        return layer if isinstance(layer, dict) else dict(enumerate(layer))
