"""Models of a hub, hf://organisation/name@revision/, on the real daemon and a stand-in hub."""

import pathlib
import subprocess

import pytest
import weightd
from hub_models import MODEL, Daemons, Hub, Request, attach, cached, contents, refusal
from models import expected, sharded_model, small_model
from processes import Daemon, binary, wait_until
from shelves import same

TOKEN = "hf_abcdefghijklmnop"


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


def test_a_bad_endpoint_of_the_environment_fails_only_the_hubs_models(
    daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hf_secret@hub.example")
    path = small_model(files / "model.safetensors")
    daemon = daemons('models: [{name: m, uri: "hf://org/m"}]')
    with attach(daemon, str(path)) as model:
        assert same(model, path)
    for uri in (MODEL, "m"):
        error = refusal(daemon, uri)
        assert error.reason == "UNSUPPORTED"
        assert "HF_ENDPOINT in the environment is no address of a web server" in error.message
        assert "https://host" in error.hint
    (line,) = (line for line in daemon.log().splitlines() if "hub.no_address" in line)
    assert "HF_ENDPOINT" in line
    assert "hf_secret" not in daemon.log()
    ctl = subprocess.run([binary("client/cli/weightctl"), "inspect", path], capture_output=True, check=False)
    assert ctl.returncode == 0, ctl.stderr

    root = tmp_path / "hf/hub"
    cached(root, "c" * 40, contents(path))
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    offline = daemons("sources: {hf: {offline: true}}")
    with attach(offline, MODEL) as model:
        assert same(model, path)
    assert "hub.no_address" not in offline.log()


def test_an_endpoint_of_the_config_is_the_configs(
    hub: Hub, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push("org/m", contents(small_model(files / "model.safetensors")))
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    attach(daemons(f"sources: {{hf: {{endpoint: '{hub.endpoint}'}}}}"), MODEL).close()
    config = tmp_path / "weightd.yaml"
    config.write_text("sources: {hf: {endpoint: hub.example}}")
    command = [binary("daemon/weightd"), "--config", config, "--check-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"{config}:1: sources.hf.endpoint: the hub's endpoint is no address" in done.stderr


def test_an_alias_names_a_repository(hub: Hub, daemons: Daemons, files: pathlib.Path) -> None:
    path = small_model(files / "model.safetensors")
    hub.push("org/m", contents(path))
    daemon = daemons('models: [{name: m, uri: "hf://org/m"}]')
    with attach(daemon, "m") as model:
        assert same(model, path)


@pytest.mark.parametrize("uri", ["hf://org", "hf://org/a--b", "hf://org/m@../x", "hf://o@x/m", "hf://org/m?x=1"])
def test_names_that_no_repository_has(hub: Hub, daemon: Daemon, uri: str) -> None:
    assert refusal(daemon, uri).reason == "INVALID_URI"
