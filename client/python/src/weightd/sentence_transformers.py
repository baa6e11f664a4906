"""sentence-transformers' models with weights from weightd.

    encoder = weightd.sentence_transformers.load("https://models.example/minilm/")

Importing this imports torch, transformers and sentence-transformers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sentence_transformers
from sentence_transformers.sentence_transformer.modules import Transformer
from transformers import AutoModel

from weightd import transformers
from weightd._attach import attach
from weightd._broken_files import naming_model
from weightd._options import passed_on
from weightd.errors import error
from weightd.model import Model

__all__ = ["load"]

_REFUSED = {
    "backend": "weightd's tensors are torch's",
    "trust_remote_code": "weightd runs no code that comes with a model",
    "revision": "name it in the URI",
    "token": "the daemon fetches the model: its config says how",
    "cache_folder": "the daemon fetches the model: its config says how",
    "model_name_or_path": "the model is the first argument",
    "modules": "the model's modules.json names them",
}
# What sentence-transformers hands down of where it takes a model from.
_OF_THE_SOURCE = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
_original = Transformer._load_model
_lock = threading.Lock()


def load(
    model: str | Model,
    *,
    directory: str | os.PathLike[str] | None = None,
    socket_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    sha256: str | Mapping[str, str] | None = None,
    device: str = "cpu",
    mode: str = "shared",
    cuda_driver: str | os.PathLike[str] | None = None,
    **options: Any,
) -> sentence_transformers.SentenceTransformer:
    """As `SentenceTransformer(model)`, with the daemon's bytes as the parameters of its transformer.

    Args:
        model: What `weightd.attach` takes, or an attached model with torch's tensors.
        directory: A folder with modules.json, the configs and the tokenizer; by default the model's own, which a model
            has that is a folder.
        socket_dir: As for `weightd.attach`; of no use with an attached model, as are the following.
        timeout: As for `weightd.attach`.
        sha256: As for `weightd.attach`.
        device: As for `weightd.attach`.
        mode: As for `weightd.attach`; "private" for training.
        cuda_driver: As for `weightd.attach`.
        options: What else SentenceTransformer takes.

    Raises:
        Error: As `weightd.transformers.from_pretrained`; ModelFileNotFoundError if the model has no such files,
            MalformedModelError if one of them is no JSON, InvalidRequestError for what the library else doesn't take.
    """
    options = passed_on(options, _REFUSED, unset=(None, False, "torch"))
    if not isinstance(model, Model):
        placed: dict[str, Any] = {"device": device, "mode": mode, "cuda_driver": cuda_driver}
        model = attach(model, socket_dir, framework="pt", timeout=timeout, sha256=sha256, **placed)
    folder = model.directory() if directory is None else Path(directory)
    what = "sentence-transformers can't make a model of modules.json, the configs and the tokenizer"
    hint = "directory= names a folder that has all of them"
    with _weights_of(model), naming_model(model.uri, folder, what, hint):
        return sentence_transformers.SentenceTransformer(
            str(folder), device=model.device, local_files_only=True, **options
        )


@contextmanager
def _weights_of(model: Model) -> Iterator[None]:
    """In its block sentence-transformers' Transformer takes them in this thread, in others what it always does."""
    thread = threading.get_ident()

    def load_model(
        self: Any, path: str, task: str, config: Any, backend: str, is_peft_model: bool, **options: Any
    ) -> Any:
        if threading.get_ident() != thread:
            return _original(self, path, task, config, backend, is_peft_model, **options)
        if is_peft_model or task != "feature-extraction" or config.is_encoder_decoder:
            what = f"a model for {task}" + (" with an adapter" if is_peft_model else "")
            hint = "weightd.transformers.from_pretrained gives the transformer"
            raise error("UNSUPPORTED", f"{what} ({type(config).__name__})", model=model.uri, hint=hint)
        given = {name: value for name, value in options.items() if name not in _OF_THE_SOURCE}
        return transformers.from_pretrained(AutoModel, model, config=config, **given)

    with _lock:
        Transformer._load_model = load_model
        try:
            yield
        finally:
            Transformer._load_model = _original
