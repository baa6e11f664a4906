"""What the package's README shows about writing works as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import weightd
from weightd import convert
from weightd.serialization import save_file

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


URL = "https://models.example"


@pytest.fixture
def network(tmp_path: Path) -> type[torch.nn.Module]:
    """A class, of which a model is written."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 6)

    (tmp_path / "network").mkdir()
    save_file(Network(), tmp_path / "network/model.safetensors")
    return Network


def run_blocks(
    marker: str, daemon: Daemon, tmp_path: Path, patch: pytest.MonkeyPatch, **names: object
) -> dict[str, Any]:
    """Runs the only block that has the marker, with models of a folder."""
    (block,) = (block for block in blocks("python") if marker in block)
    patch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    names["weightd"] = weightd
    exec(block.replace(URL, str(tmp_path)), names)
    return names


def test_torch(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: type[torch.nn.Module]
) -> None:
    found = run_blocks("load_into(", daemon, tmp_path, monkeypatch, Network=network)
    assert found["report"] == (2, {}, (), ())


@pytest.mark.usefixtures("network")
def test_parts(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_blocks("get_sharded(", daemon, tmp_path, monkeypatch)
    assert (found["rows"].shape, found["columns"].shape) == ((3, 4), (6, 2))


def test_transformers(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = tmp_path / "llama"
    transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=9, **small)).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3}).save_pretrained(folder)
    found = run_blocks("AutoModelForCausalLM", daemon, tmp_path, monkeypatch)
    assert isinstance(found["llama"], transformers.LlamaForCausalLM)
    assert found["report"].copied == {}


def test_sentence_transformers(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="run deploy/install_deps.sh")
    script = ROOT / "deploy/quickstart/model_folder.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    folder = Path(printed.strip())
    (tmp_path / "minilm").symlink_to(folder)
    found = run_blocks("sentence_transformers", daemon, tmp_path, monkeypatch)
    assert found["encoder"].encode(["hello"]).shape == (1, 384)


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
