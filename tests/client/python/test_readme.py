"""What the package's README shows about writing works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
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
