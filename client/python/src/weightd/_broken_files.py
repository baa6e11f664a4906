"""What libraries raise for a model's small files that are broken, in our words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from weightd._report import unfit
from weightd.errors import Error, error

# What the libraries expect of the files that they read.
_KINDS: dict[str, type] = {
    "modules.json": list,
    "config_sentence_transformers.json": dict,
    "sentence_bert_config.json": dict,
    "1_Pooling/config.json": dict,
    "config.json": dict,
    "generation_config.json": dict,
    "tokenizer_config.json": dict,
    "tokenizer.json": dict,
    "special_tokens_map.json": dict,
    "added_tokens.json": dict,
}
# Of a cause's own words.
_MOST_LETTERS = 500


@contextmanager
def naming_model(model: str, folder: Path, what: str, hint: str) -> Iterator[None]:
    """For a block in which a library reads `folder`, which it may raise anything for.

    Raises:
        MalformedModelError: A file there that should be JSON is none, and is named.
        InvalidRequestError: `what`, and why, for all else but errors of ours and a lack of memory.
    """
    try:
        yield
    except (Error, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as failure:
        if broken := _broken(folder):
            hint = "the file is damaged where the model lies: put it there anew"
            raise error("MALFORMED_MODEL", broken, model=model, hint=hint) from failure
        said = f"{type(failure).__name__}: {failure}".replace(str(folder), model.rstrip("/")).splitlines()[0]
        raise unfit(f"{what}: {said[:_MOST_LETTERS]}", model, hint) from failure


def _broken(folder: Path) -> str:
    """The first that is no JSON, or another than it should be, and why; "" if there is none."""
    for name, wanted in _KINDS.items():
        try:
            content = json.loads((folder / name).read_text("utf-8"))
        except OSError:
            continue
        except (ValueError, RecursionError) as failure:
            return f"{name} is no JSON: {failure}"
        if not isinstance(content, wanted):
            return f"{name} holds a {type(content).__name__} instead of a {wanted.__name__}"
    return ""
