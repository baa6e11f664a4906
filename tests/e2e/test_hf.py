"""Models of a hub, hf://organisation/name@revision/, on the real daemon and a stand-in hub."""

import hashlib
import json
import pathlib
import subprocess
import sys
import typing

import pytest
import weightd
from models import expected, sharded_model, small_model
from processes import PATIENCE, Daemon, binary, wait_until
from shelves import same

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "servers"))

from hub import Hub, Request  # noqa: E402

Daemons = typing.Callable[..., Daemon]
TOKEN = "hf_abcdefghijklmnop"
MODEL = "hf://org/m@main/"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> typing.Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield server


def contents(*paths: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def attach(daemon: Daemon, uri: str) -> weightd.Model:
    return weightd.attach(uri, socket_dir=str(daemon.socket_dir), timeout=60)


def refusal(daemon: Daemon, uri: str) -> weightd.Error:
    with pytest.raises(weightd.Error) as caught:
        attach(daemon, uri)
    return caught.value


def cached(folder: pathlib.Path, commit: str, files: dict[str, bytes]) -> None:
    """What huggingface_hub leaves of org/m@main."""
    root = folder / "models--org--m"
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs/main").write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    for name, data in files.items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data)
        etag = (git if name.endswith(".json") else hashlib.sha256(data)).hexdigest()
        (root / "blobs" / etag).write_bytes(data)
        (root / "snapshots" / commit / name).symlink_to(f"../../blobs/{etag}")


def test_a_repository_is_a_model(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    path = small_model(files / "model.safetensors")
    commit = hub.push("org/m", {"config.json": b"{}", **contents(path)})
    daemon = daemons()
    for uri in ("hf://org/m", MODEL, f"hf://org/m@{commit}/", "hf://org/m/model.safetensors"):
        with attach(daemon, uri) as model:
            assert same(model, path)
    assert hub.asked("cdn")


def test_a_sharded_repository_is_a_model(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    hub.push("org/m", contents(*folder.iterdir()))
    with attach(daemons(), MODEL) as model:
        truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
        assert {name: bytes(model.raw(name)) for name in model.tensors} == truth


def test_the_token_reaches_the_hub_alone(
    hub: Hub, daemons: Daemons, files: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    hub.repositories["org/m"].gated_for = {TOKEN}
    daemon = daemons()
    attach(daemon, MODEL).close()
    assert all(request.headers.get("authorization") == f"Bearer {TOKEN}" for request in hub.asked("hub"))
    assert hub.asked("cdn")
    assert not any(TOKEN in str(request) for request in hub.asked("cdn"))
    assert TOKEN not in daemon.log()


def test_others_have_only_the_token_that_the_config_gives(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    hub.repositories["org/m"].gated_for = {TOKEN}
    for extra in ("", f"hf: {{token_file: {tmp_path}/token}}"):
        shared = tmp_path / f"shared-{len(extra)}"
        daemons(
            f"""
listeners:
  - {{name: own, directory: {tmp_path}/own-{len(extra)}}}
  - {{name: shared, directory: {shared}, mode: 0755, access: {{load: ["hf://org/**"]}}}}
sources:
  http: {{allowed_networks: ["127.0.0.0/8"]}}
  {extra}
"""
        )
        if extra:
            weightd.attach(MODEL, socket_dir=str(shared), timeout=60).close()
        else:
            with pytest.raises(weightd.Error, match="gated"):
                weightd.attach(MODEL, socket_dir=str(shared), timeout=60)


@pytest.mark.parametrize(("token", "status"), [(None, "401"), ("hf_other", "403")])
def test_a_gated_repository_says_what_to_do(
    hub: Hub,
    daemons: Daemons,
    files: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    status: str,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    hub.repositories["org/m"].gated_for = {TOKEN}
    error = refusal(daemons(), MODEL)
    assert error.reason == "SOURCE_DENIED"
    assert "gated" in error.message and status in error.message
    assert "accept its conditions" in error.hint and "HF_TOKEN" in error.hint


def test_what_is_not_there(hub: Hub, daemons: Daemons) -> None:
    hub.push("org/m", {"config.json": b"{}"})
    daemon = daemons()
    for uri, said in {
        "hf://org/absent@main/": "no repository org/absent",
        "hf://org/m@nothing/": "no revision nothing",
        "hf://org/m@main/x.safetensors": "no such file",
    }.items():
        error = refusal(daemon, uri)
        assert error.reason == "MODEL_NOT_FOUND"
        assert said in error.message


def test_a_repository_has_one_name(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    hub.renamed["Org/m"] = "org/m"
    assert "another name" in refusal(daemons(), "hf://Org/m@main/model.safetensors").message


def test_wrong_bytes_are_refused(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    hub.flip_bytes = True
    error = refusal(daemons(), MODEL)
    assert error.reason == "VERIFICATION_FAILED"
    assert "sha256" in error.message


def test_signatures_that_end_are_made_anew(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    path = small_model(files / "model.safetensors")
    hub.push("org/m", contents(path))
    hub.signatures_end = True
    with attach(daemons(), MODEL) as model:
        assert same(model, path)
    assert len(hub.asked("cdn")) >= 4


def test_a_branch_moves_and_a_commit_does_not(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    first, second = (small_model(files / str(seed) / "model.safetensors", seed=seed) for seed in (1, 2))
    commit = hub.push("org/m", contents(first))
    daemon = daemons("cache: {revalidate: always}\n")
    pinned = f"hf://org/m@{commit}/"
    for uri in (MODEL, pinned):
        daemon.ctl("preload", uri)
    hub.push("org/m", contents(second))

    def moved() -> bool:
        with attach(daemon, MODEL) as model:
            return same(model, second)

    wait_until(moved, "the branch's new commit is resident")
    with attach(daemon, pinned) as model:
        assert same(model, first)


@pytest.mark.parametrize("shards", [1, 2])
def test_weights_and_config_are_of_one_commit(
    hub: Hub, daemons: Daemons, files: pathlib.Path, shards: int
) -> None:
    folder = files / "m"
    if shards > 1:
        sharded_model(folder, shards=shards)
    else:
        small_model(folder / "model.safetensors")
    first = {"config.json": b"1", **contents(*folder.iterdir())}
    second = {name: data[:-1] + b"2" if name.endswith(".safetensors") else data for name, data in first.items()}
    hub.push("org/m", first)
    pushed: list[str] = []

    def push_once(request: Request) -> None:
        if request.path.endswith("/config.json") and not pushed:
            pushed.append(hub.push("org/m", {**second, "config.json": b"2"}))

    hub.on_request = push_once
    with attach(daemons(), MODEL) as model:
        assert model.files["config.json"] == b"2"
        last = max(model.tensors, key=lambda name: model.tensors[name].offset)
        assert model.raw(last)[-1:] == b"2"
    assert pushed


@pytest.mark.parametrize("revision", ["refs/pr/1", "feature/x"])
def test_a_revision_may_have_slashes(
    hub: Hub,
    daemons: Daemons,
    files: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    revision: str,
) -> None:
    main, other = (small_model(files / str(seed) / "model.safetensors", seed=seed) for seed in (1, 2))
    hub.push("org/m", contents(main))
    commit = hub.push("org/m", {"config.json": b"{}", **contents(other)}, branch=revision)
    escaped = revision.replace("/", "%2F")
    daemon = daemons()
    for uri in (f"hf://org/m@{escaped}/", f"hf://org/m@{escaped.lower()}/model.safetensors"):
        with attach(daemon, uri) as model:
            assert same(model, other)
    with attach(daemon, f"hf://org/m@{escaped}") as model:
        assert dict(model.files) == {"config.json": b"{}"}
    assert "no revision" in refusal(daemon, f"hf://org/m@{escaped}%2Fz/").message
    assert "%2F" in refusal(daemon, f"hf://org/m@{revision}/").hint

    root = tmp_path / "hf/hub"
    cached(root, commit, contents(other))
    (root / "models--org--m/refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (root / "models--org--m/refs/main").rename(root / "models--org--m/refs" / revision)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with attach(daemons(), f"hf://org/m@{escaped}/") as model:
        assert same(model, other)


def test_a_slashed_revision_is_part_of_a_rule(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = small_model(files / "model.safetensors")
    hub.push("org/m", contents(path), branch="refs/pr/1")
    hub.push("org/m", contents(path))
    shared = tmp_path / "shared"
    daemons(
        f"""
listeners:
  - {{name: own, directory: {tmp_path}/own}}
  - name: shared
    directory: {shared}
    mode: 0755
    access: {{load: ["hf://org/m@*/**"], deny: ["hf://org/m@refs%2fpr%2f*/**"]}}
sources:
  http: {{allowed_networks: ["127.0.0.0/8"]}}
"""
    )
    weightd.attach(MODEL, socket_dir=str(shared), timeout=60).close()
    with pytest.raises(weightd.Error) as caught:
        weightd.attach("hf://org/m@refs%2Fpr%2F1/", socket_dir=str(shared), timeout=60)
    assert caught.value.reason == "NOT_ALLOWED"


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


def test_an_alias_names_a_repository(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    path = small_model(files / "model.safetensors")
    hub.push("org/m", contents(path))
    daemon = daemons('models: [{name: m, uri: "hf://org/m"}]')
    with attach(daemon, "m") as model:
        assert same(model, path)


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
    assert "HF_ENDPOINT" in tool("inspect", MODEL, code=64).stderr


@pytest.mark.parametrize("uri", ["hf://org", "hf://org/a--b", "hf://org/m@../x", "hf://o@x/m", "hf://org/m?x=1"])
def test_names_that_no_repository_has(hub: Hub, daemon: Daemon, uri: str) -> None:
    assert refusal(daemon, uri).reason == "INVALID_URI"
