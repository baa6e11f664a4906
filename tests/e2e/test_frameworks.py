"""MiniLM through a web server and the daemon, in the frameworks that people use."""

import os
import pathlib
import shutil
import subprocess
import sys
import typing

import pytest
import torch
import transformers
import weightd
from processes import ROOT, Daemon, Nginx, pss_of_segment

SENTENCES = ["A cat sits on the mat.", "Somebody reads a book."]


@pytest.fixture(scope="module")
def minilm() -> pathlib.Path:
    """The folder of the weights, the configs and the tokenizer."""
    script = str(ROOT / "deploy/quickstart/model_folder.py")
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    return pathlib.Path(printed.strip())


@pytest.fixture
def url(minilm: pathlib.Path, web: Nginx, files: pathlib.Path) -> str:
    """Its folder, at a web server."""
    shutil.copytree(minilm, files / "minilm")
    return web.url("minilm/")


def test_transformers(
    daemon: Daemon, url: str, minilm: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WEIGHTD_DIR", str(daemon.socket_dir))
    ours, report = weightd.transformers.from_pretrained(transformers.AutoModel, url, output_loading_info=True)
    assert (report.copied, report.missing, report.unexpected) == ({}, (), ())
    tokenizer = weightd.transformers.tokenizer(url, padding_side="left")
    assert (tokenizer.name_or_path, tokenizer.padding_side) == (url, "left")
    theirs = transformers.AutoModel.from_pretrained(minilm)
    inputs = transformers.AutoTokenizer.from_pretrained(minilm, padding_side="left")(
        SENTENCES, return_tensors="pt", padding=True
    )
    assert torch.equal(tokenizer(SENTENCES, return_tensors="pt", padding=True).input_ids, inputs.input_ids)
    with torch.no_grad():
        assert torch.equal(ours(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state)


def test_sentence_transformers(daemon: Daemon, url: str, minilm: pathlib.Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="run deploy/install_deps.sh")
    with weightd.attach(url, socket_dir=daemon.socket_dir) as model:
        # As its own class takes them, for nothing.
        ours = weightd.sentence_transformers.load(model, backend="torch", token=None, local_files_only=True)
        shared = {tensor.data_ptr() for tensor in model.state_dict().values()}
    theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    assert {parameter.data_ptr() for parameter in ours.parameters()} <= shared
    assert ours.max_seq_length == theirs.max_seq_length
    assert (ours.encode(SENTENCES) == theirs.encode(SENTENCES)).all()
    with pytest.raises(weightd.InvalidRequestError, match="backend"):
        weightd.sentence_transformers.load(url, socket_dir=daemon.socket_dir, backend="onnx")
    with pytest.raises(weightd.InvalidRequestError, match="token") as caught:
        weightd.sentence_transformers.load(url, socket_dir=daemon.socket_dir, token="hf_secret")
    assert "hf_secret" not in str(caught.value)
    with pytest.raises(weightd.InvalidRequestError, match="has not: "):
        weightd.sentence_transformers.load(model_without_pooler(daemon, minilm, url), directory=minilm)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("modules.json", "["),
        ("modules.json", '[{"idx": 0}]'),
        ("modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "no.such.Module"}]'),
        ("1_Pooling/config.json", "{"),
        ("tokenizer.json", "[]"),
        ("config.json", "{"),
    ],
)
def test_broken_files_of_sentence_transformers_are_told(
    daemon: Daemon, minilm: pathlib.Path, tmp_path: pathlib.Path, name: str, text: str
) -> None:
    pytest.importorskip("sentence_transformers", reason="run deploy/install_deps.sh")
    folder = tmp_path / "broken"
    shutil.copytree(minilm, folder)
    (folder / name).write_text(text)
    with pytest.raises(weightd.Error, match=name.replace(".", "[.]")) as caught:
        weightd.sentence_transformers.load(f"{folder}/", socket_dir=daemon.socket_dir)
    assert caught.value.model == f"file://{folder}/"
    assert caught.value.__cause__ is not None
    with pytest.raises(weightd.Error, match=name.replace(".", "[.]")):
        weightd.sentence_transformers.load(f"{minilm}/", directory=folder, socket_dir=daemon.socket_dir)


def model_without_pooler(daemon: Daemon, minilm: pathlib.Path, url: str) -> weightd.Model:
    """The same model, less a tensor that the module has."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(minilm / "model.safetensors")
    del tensors["pooler.dense.weight"]
    folder = daemon.socket_dir.parent / "less"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return weightd.attach(str(folder / "model.safetensors"), socket_dir=daemon.socket_dir)


SHARED = """
import sys, torch, transformers, weightd
model = weightd.transformers.from_pretrained(transformers.AutoModel, sys.argv[1])
model(torch.tensor([[1, 2, 3]]))
total = sum(float(parameter.sum()) for parameter in model.parameters())  # reads every page
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.plain_only
def test_four_processes_have_one_copy(daemon: Daemon, url: str, minilm: pathlib.Path) -> None:
    environment = {**os.environ, "WEIGHTD_DIR": str(daemon.socket_dir), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SHARED, url]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]

    assert [typing.cast(typing.IO[str], process.stdout).readline() for process in started] == ["\n"] * 4
    pss = sum(pss_of_segment(process.pid) for process in started)
    for process in started:
        process.communicate("\n")
    assert [process.returncode for process in started] == [0] * 4
    size = (minilm / "model.safetensors").stat().st_size
    assert 0.5 * size < pss <= 1.01 * size
