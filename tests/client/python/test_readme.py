"""What the package's README shows works as it stands."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import weightd
from weightd import convert
from weightd.serialization import save_file

from conftest import ROOT, Daemon
from test_engines import NAMES, Network, engine, load_with_sglang, load_with_vllm

__all__ = ["engine"]  # a fixture

README = (ROOT / "client/python/README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


# What is in one block each; the one of GPUs is run by test_device.py.
MARKERS = [
    "pooler.dense.weight",
    "load_into(network, weightd",
    "AutoModelForCausalLM",
    "sentence_transformers.load",
    "get_sharded(",
    "save_file(",
    "import load_file",
    "weightd.patch(",
    "model.files[",
    "cuda:0",
]


def test_each_block_is_run() -> None:
    python = blocks("python")
    assert [[marker in block for block in python].count(True) for marker in MARKERS] == [1] * len(python)
    install, conversion, engines = blocks("sh")
    assert "pip install" in install
    assert "weightd.convert" in conversion
    assert "--load-format" in engines
    (real_engines,) = blocks("sh engines")
    for path in re.findall(r"tests/\S+", real_engines):
        assert (ROOT / path).exists(), path
    kinds = re.findall(r"^```(.+)", README, re.MULTILINE)
    assert len(kinds) == len(python) + 4
    assert not re.findall(r"^(?:    |\t)\S.*", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)


def test_installation(daemon: Daemon, tmp_path: Path) -> None:
    """Beside the environment: what is installed goes to a folder, without what it needs."""
    build = ["build", "*.egg-info"]
    shutil.copytree(ROOT / "client/python", tmp_path / "client/python", ignore=shutil.ignore_patterns(*build))
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_TARGET": str(tmp_path / "installed"),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that there is none
        "PYTHONPATH": str(tmp_path / "installed"),
        "WEIGHTD_DIR": str(daemon.socket_dir),
    }
    (block,) = (block for block in blocks("sh") if "pip install" in block)
    command = ["bash", "-ec", block]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "attached in" in done.stdout
    assert (tmp_path / "installed/weightd/demo.py").exists()
    assert len(list(tmp_path.glob("weightd-*.whl"))) == 1


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A small one with a tokenizer."""
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=200
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "minilm")
    (tmp_path / "minilm/tokenizer.json").write_text("{}")
    return tmp_path / "minilm"


@pytest.mark.usefixtures("bert")
def test_attach(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_blocks("pooler.dense.weight", daemon, tmp_path, monkeypatch)
    assert capsys.readouterr().out.endswith("torch.Size([200, 32])\n")


def test_what_lies_beside(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Path) -> None:
    found = run_blocks("model.files[", daemon, tmp_path, monkeypatch)
    assert found["config"] == (bert / "config.json").read_bytes()
    assert found["tokenizer"].name == "tokenizer.json"


def test_engines(engine: Any, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In stand-ins of the engines, with what their command lines say."""
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    (tmp_path / "llama").mkdir()
    save_file({name: torch.ones(3, 4) for name in NAMES}, tmp_path / "llama/model.safetensors")
    (block,) = (block for block in blocks("sh") if "--load-format" in block)
    lines = block.replace("s3://models", str(tmp_path)).replace("/models", str(tmp_path)).splitlines()
    for line in lines:
        program = shlex.split(line)
        options = dict(itertools.pairwise(program))
        load_config = types.SimpleNamespace(
            load_format=options["--load-format"],
            model_loader_extra_config=json.loads(options.get("--model-loader-extra-config", "{}")),
        )
        network = Network(*NAMES)
        if program[:2] == ["vllm", "serve"]:
            engine("vllm")
            load_with_vllm(load_config, program[2], network)
        else:
            assert program[1:3] == ["-m", "sglang.launch_server"]
            engine("sglang")
            load_with_sglang(load_config, options["--model-path"], network)
        assert network.second.weight.sum() == 12, line


def test_serialization(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in blocks("python") if "save_file" in block)
    network = torch.nn.ModuleDict({"embeddings": torch.nn.Embedding(3, 4)})
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    exec(block.replace("/models", str(tmp_path)), {"network": network})


@pytest.mark.usefixtures("bert")
def test_in_place_of_safetensors(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_in, patch = (block for block in blocks("python") if "/models/minilm" in block)
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
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
    (block,) = (block for block in blocks("sh") if "weightd.convert" in block)
    lines = block.splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("python -m "))
        assert program == "weightd.convert"
        assert convert.main(arguments) == 0, line
        assert Path(arguments[-1]).exists()
