"""What the package's README shows about writing works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
import transformers
from weightd import convert

from conftest import ROOT, Daemon

README = (ROOT / "client/python/README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_serialization(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in blocks("python") if "save_file" in block)
    network = torch.nn.ModuleDict({"embeddings": torch.nn.Embedding(3, 4)})
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    exec(block.replace("/models", str(tmp_path)), {"network": network})


def test_in_place_of_safetensors(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_in, patch = (block for block in blocks("python") if "/models/minilm" in block)
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=200
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "minilm")
    names: dict[str, object] = {"transformers": transformers}
    exec(drop_in.replace("/models", str(tmp_path)), names)
    assert isinstance(half := names["half"], torch.Tensor)
    assert half.shape == (100, 32)
    exec(patch.replace('"/models', f'"{tmp_path}'), names)
    assert isinstance(names["bert"], transformers.BertModel)


def test_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(3)}, "pytorch_model.bin")
    torch.save({"state_dict": {"w": torch.ones(3), "steps": 5}}, "checkpoint.pt")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("python -m "))
        assert program == "weightd.convert"
        assert convert.main(arguments) == 0, line
        assert Path(arguments[-1]).exists()
