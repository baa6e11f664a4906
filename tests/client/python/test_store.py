"""Writing to an S3-compatible store: the real weightctl, moto's server, and the daemon that reads from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import weightd
from weightd import convert
from weightd.serialization import Deserializer, save_file

from conftest import ROOT, Daemon, daemon_binary

sys.path.insert(0, str(ROOT / "tests/servers"))

from s3 import Moto


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """A store with the bucket "models", which the environment names, and weightctl on the PATH."""
    with Moto(tmp_path) as server:
        server.client().create_bucket(Bucket="models")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("PATH", str(daemon_binary().resolve().parents[1] / "client/cli"), prepend=":")
        monkeypatch.delenv("WEIGHTCTL", raising=False)
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        yield server
        assert not list((tmp_path / "temporary").iterdir())


def keys(store: Moto) -> set[str]:
    return {entry["Key"] for entry in store.client().list_objects_v2(Bucket="models").get("Contents", [])}


@pytest.mark.parametrize("suffix", ["safetensors", "tensors"])
def test_into_a_store_and_back(store: Moto, request: pytest.FixtureRequest, suffix: str) -> None:
    uri = f"s3://models/small/model.{suffix}"
    module = torch.nn.Linear(3, 5)
    save_file(module, uri)
    assert keys(store) == {f"small/model.{suffix}"}
    daemon: Daemon = request.getfixturevalue("daemon")  # after the store's place is known
    with Deserializer(uri, socket_dir=daemon.socket_dir) as tensors:
        found = torch.nn.Linear(3, 5, device="meta")
        assert tensors.load_into_module(found) == 2
    assert torch.equal(found.weight, module.weight)


def test_shards_into_a_store(store: Moto, tmp_path: Path) -> None:
    torch.save({f"t{i}": torch.ones(100) for i in range(4)}, tmp_path / "m.pt")
    assert convert.main([str(tmp_path / "m.pt"), "s3://models/large/", "--shard-size", "800"]) == 0
    names = {f"model-{i:05}-of-00002.safetensors" for i in (1, 2)} | {"model.safetensors.index.json"}
    assert keys(store) == {f"large/{name}" for name in names}


@pytest.mark.usefixtures("store")
def test_what_weightctl_says_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(weightd.Error) as raised:
        save_file({"t": torch.ones(1)}, "s3://no-such-bucket/model.safetensors")
    assert raised.value.model == "s3://no-such-bucket/model.safetensors"
    assert raised.value.reason in ("MODEL_NOT_FOUND", "SOURCE_DENIED")
    assert "bucket" in str(raised.value)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(weightd.InvalidRequestError, match="needs weightctl"):
        save_file({"t": torch.ones(1)}, "s3://models/model.safetensors")
