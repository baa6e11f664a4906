"""The local cache of a hub's own tools: what it serves, and what of it is not believed."""

import hashlib
import pathlib
import typing

import pytest
import torch
import weightd
import weightd.serialization
from hub_models import MODEL, Daemons, Hub, attach, cached, contents, refusal
from models import expected, sharded_model, small_model
from processes import wait_until
from shelves import same


def test_the_cache_serves_what_it_has(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = small_model(files / "model.safetensors")
    commit = hub.push("org/m", contents(path))
    cached(tmp_path / "hf/hub", commit, contents(path))
    with attach(daemons(), MODEL) as model:
        assert same(model, path)
    assert all(request.headers.get("range") == "bytes=0-0" for request in hub.asked("cdn"))


def test_offline_the_cache_is_all(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_model(files / "model.safetensors")
    cached(tmp_path / "hf/hub", "c" * 40, contents(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    daemon = daemons()
    with attach(daemon, MODEL) as model:
        assert same(model, path)
    assert "cache" in refusal(daemon, "hf://org/other@main/m.safetensors").message
    assert hub.requests == []


def test_without_the_hub_the_cache_counts(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = sharded_model(files / "llama", shards=2)
    model = {"config.json": b"{}", **contents(*folder.iterdir())}
    cached(tmp_path / "hf/hub", hub.push("org/m", model), model)
    hub.close()
    daemon = daemons()
    with attach(daemon, MODEL) as attached:
        truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
        assert {name: bytes(attached.raw(name)) for name in attached.tensors} == truth
        assert dict(attached.files) == {"config.json": b"{}"}
    shard = next(folder.glob("*.safetensors"))
    with attach(daemon, f"{MODEL}{shard.name}") as attached:
        assert same(attached, shard)
    # What it doesn't have may well be at the hub.
    assert refusal(daemon, f"{MODEL}other.safetensors").reason == "SOURCE_UNAVAILABLE"


@pytest.mark.parametrize("name", ["model.safetensors", "model.tensors"])
def test_without_the_hub_no_index_is_missed(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    if name.endswith(".tensors"):
        path = files / name
        weight = torch.arange(1000, dtype=torch.float32)
        weightd.serialization.save_file({"weight": weight}, path)
        truth = {"weight": weight.numpy().tobytes()}
    else:
        path = small_model(files / name)
        truth = expected(path)
    model = {"config.json": b"{}", **contents(path)}
    cached(tmp_path / "hf/hub", hub.push("org/m", model), model)
    hub.close()
    daemon = daemons()
    for uri in (MODEL, "hf://org/m"):
        with attach(daemon, uri) as attached:
            assert {name: bytes(attached.raw(name)) for name in attached.tensors} == truth
            assert dict(attached.files) == {"config.json": b"{}"}


def test_without_the_hub_a_part_of_a_folder_is_no_model(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = {name: small_model(files / name).read_bytes() for name in ("a.safetensors", "b.safetensors")}
    cached(tmp_path / "hf/hub", hub.push("org/m", whole), {"a.safetensors": whole["a.safetensors"]})
    hub.close()
    assert refusal(daemons(), MODEL).reason == "SOURCE_UNAVAILABLE"


def test_others_have_only_the_cache_that_the_config_gives(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_model(files / "model.safetensors")
    cached(tmp_path / "hf/hub", "c" * 40, contents(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for extra in ("", f"hf: {{cache: {tmp_path}/hf/hub}}"):
        own, shared = (tmp_path / f"{name}-{len(extra)}" for name in ("own", "shared"))
        daemons(
            f"""
listeners:
  - {{name: own, directory: {own}}}
  - {{name: shared, directory: {shared}, mode: 0755, access: {{load: ["hf://org/**"]}}}}
sources:
  http: {{allowed_networks: ["127.0.0.0/8"]}}
  {extra}
"""
        )
        if extra:
            with weightd.attach(MODEL, socket_dir=str(shared), timeout=60) as model:
                assert same(model, path)
        else:
            with pytest.raises(weightd.Error) as caught:
                weightd.attach(MODEL, socket_dir=str(shared), timeout=60)
            assert caught.value.reason == "MODEL_NOT_FOUND"
            assert str(tmp_path) not in f"{caught.value}"
        weightd.attach(MODEL, socket_dir=str(own), timeout=60).close()
    assert hub.requests == []


def test_the_cache_is_not_left_and_not_trusted(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_model(files / "model.safetensors")
    cached(tmp_path / "hf/hub", "c" * 40, contents(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    blob = next((tmp_path / "hf/hub/models--org--m/blobs").iterdir())
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    daemon = daemons()
    assert refusal(daemon, MODEL).reason == "VERIFICATION_FAILED"
    blob.unlink()
    blob.symlink_to(path)
    assert refusal(daemon, MODEL).reason == "MODEL_NOT_FOUND"


def blob_of(root: pathlib.Path, name: str) -> pathlib.Path:
    """What the cache has of org/m's file."""
    (link,) = root.glob(f"models--org--m/snapshots/*/{name}")
    return link.resolve()


DAMAGES: dict[str, typing.Callable[[bytes], bytes]] = {
    "a tensor": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "the header": lambda data: b"\xff" * 16 + data[16:],
    "the size": lambda data: data[:-100],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_replaced_by_the_hubs(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, damage: str
) -> None:
    folder = sharded_model(files / "llama", shards=3)
    model = contents(*folder.iterdir())
    root = tmp_path / "hf/hub"
    cached(root, hub.push("org/m", model), model)
    shards = sorted(name for name in model if name.endswith(".safetensors"))
    blob = blob_of(root, shards[1])
    blob.write_bytes(DAMAGES[damage](model[shards[1]]))
    truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
    daemon = daemons()
    with attach(daemon, MODEL) as attached:
        assert {name: bytes(attached.raw(name)) for name in attached.tensors} == truth
    brought = {request.path for request in hub.asked("cdn") if request.headers.get("range") != "bytes=0-0"}
    assert brought and all(hashlib.sha256(model[shards[1]]).hexdigest() in path for path in brought)
    wait_until(lambda: "hub.copy_damaged" in daemon.log(), "the log says so")
    said = [line for line in daemon.log().splitlines() if "hub.copy_damaged" in line]
    assert len(said) == 1 and f"hf://org/m@main/{shards[1]}" in said[0]
    daemon.ctl("evict", MODEL)
    # Once it is replaced it counts again.
    blob.write_bytes(model[shards[1]])
    asked = len(hub.asked("cdn"))
    attach(daemon, MODEL).close()
    assert all(request.headers.get("range") == "bytes=0-0" for request in hub.asked("cdn")[asked:])


def test_a_damaged_small_copy_is_replaced_by_the_hubs(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"config.json": b'{"a": 1}', **contents(small_model(files / "model.safetensors"))}
    root = tmp_path / "hf/hub"
    cached(root, hub.push("org/m", model), model)
    daemon = daemons()
    blob_of(root, "config.json").write_bytes(b'{"a": 2}')
    with attach(daemon, MODEL) as attached:
        assert attached.files["config.json"] == model["config.json"]
    wait_until(lambda: "hf://org/m@main/config.json" in daemon.log(), "the log says so")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refusal(daemons(), MODEL)
    assert error.reason == "VERIFICATION_FAILED"
    assert "config.json: its copy in the local cache" in error.message


@pytest.mark.parametrize("damage", DAMAGES)
def test_offline_a_damaged_copy_fails_the_load_and_is_named(
    hub: Hub,
    daemons: Daemons,
    files: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    path = small_model(files / "model.safetensors")
    root = tmp_path / "hf/hub"
    cached(root, "c" * 40, contents(path))
    blob_of(root, "model.safetensors").write_bytes(DAMAGES[damage](path.read_bytes()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    daemon = daemons()
    for _ in range(2):
        error = refusal(daemon, MODEL)
        assert error.reason == "VERIFICATION_FAILED"
        assert "model.safetensors: its copy in the local cache" in error.message
        assert "download it there again" in error.hint
    assert hub.requests == []


def test_a_model_that_is_malformed_at_the_hub_is_read_once(
    hub: Hub, daemons: Daemons, tmp_path: pathlib.Path
) -> None:
    model = {"model.safetensors": b"\xff" * 10000}
    cached(tmp_path / "hf/hub", hub.push("org/m", model), model)
    daemon = daemons()
    assert refusal(daemon, MODEL).reason == "MALFORMED_MODEL"
    assert "hub.copy_damaged" not in daemon.log()
