"""weightctl's offline tools on models of a hub."""

import json
import pathlib
import subprocess

import pytest
from hub_models import MODEL, Hub, cached, contents
from models import expected, sharded_model, small_model
from processes import PATIENCE, binary

TOKEN = "hf_abcdefghijklmnop"


def tool(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """weightctl, which needs no daemon for that."""
    command = [binary("client/cli/weightctl"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stderr
    return done


def test_tools_read_models_of_a_hub(
    hub: Hub, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sharded_model(files / "llama", shards=3)
    commit = hub.push("org/m", contents(*folder.iterdir()))
    hub.repositories["org/m"].gated_for = {TOKEN}
    assert "gated" in tool("inspect", MODEL, code=77).stderr
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
    for uri in (MODEL, f"hf://org/m@{commit}/"):
        shown = json.loads(tool("inspect", uri, "--output", "json").stdout)["tensors"]
        assert {one["name"] for one in shown} == set(truth)
        assert {one["file"] for one in shown} == {path.name for path in folder.glob("*.safetensors")}
    shard = sorted(folder.glob("*.safetensors"))[0]
    one = json.loads(tool("inspect", f"{MODEL}{shard.name}", "--output", "json").stdout)
    assert one == json.loads(tool("inspect", shard, "--output", "json").stdout)
    tool("convert", MODEL, tmp_path / "m.tensors")
    tool("verify", tmp_path / "m.tensors")
    tool("convert", MODEL, tmp_path / "m.safetensors")
    assert expected(tmp_path / "m.safetensors") == truth

    data = (tmp_path / "m.tensors").read_bytes()
    hub.push("org/m", {"m.tensors": data})
    tool("verify", MODEL)
    middle = len(data) // 2
    hub.push("org/m", {"m.tensors": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]})
    tool("verify", MODEL, code=65)
    assert all(request.headers.get("authorization") is None for request in hub.asked("cdn"))


def test_tools_read_the_local_cache(
    hub: Hub, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_model(files / "model.safetensors")
    cached(tmp_path / "hf/hub", "c" * 40, contents(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tool("convert", MODEL, tmp_path / "m.safetensors")
    assert expected(tmp_path / "m.safetensors") == expected(path)
    assert hub.requests == []
    monkeypatch.setenv("HF_ENDPOINT", "ftp://hub")
    tool("inspect", MODEL)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "HF_ENDPOINT" in tool("inspect", MODEL, code=64).stderr
