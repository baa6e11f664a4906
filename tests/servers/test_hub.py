"""The stand-in hub, asked by the client that hubs are made for."""

import pathlib
import typing

import pytest
from hub import Hub

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub() -> typing.Iterator[Hub]:
    with Hub() as server:
        yield server


def download(hub: Hub, cache: pathlib.Path, file: str, **arguments: typing.Any) -> pathlib.Path:
    arguments = {"repo_id": "org/m", "endpoint": hub.endpoint, "token": False, **arguments}
    return pathlib.Path(huggingface_hub.hf_hub_download(filename=file, cache_dir=cache, **arguments))


def test_large_and_small_files_are_downloaded(hub: Hub, tmp_path: pathlib.Path) -> None:
    files = {"model.safetensors": b"w" * 10000, "config.json": b"{}"}
    commit = hub.push("org/m", files)
    for name, data in files.items():
        path = download(hub, tmp_path, name)
        assert path.read_bytes() == data
        assert path.parent.name == commit
        assert path.is_symlink()
    assert (tmp_path / "models--org--m/refs/main").read_text() == commit


def test_the_api_is_understood(hub: Hub) -> None:
    commit = hub.push("org/m", {"a/b.txt": b"1", "c": b"2"})
    info = huggingface_hub.HfApi(endpoint=hub.endpoint, token=False).model_info("org/m", revision="main")
    assert info.sha == commit
    assert info.siblings is not None
    assert [sibling.rfilename for sibling in info.siblings] == ["a/b.txt", "c"]


def test_revisions_may_have_slashes(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.push("org/m", {"x": b"main"})
    for revision in ("refs/pr/1", "feature/x"):
        commit = hub.push("org/m", {"x": revision.encode(), "a b/c.txt": b"1"}, branch=revision)
        assert download(hub, tmp_path, "x", revision=revision).read_text() == revision
        assert download(hub, tmp_path, "a b/c.txt", revision=revision).read_text() == "1"
        assert (tmp_path / "models--org--m/refs" / revision).read_text() == commit
        info = huggingface_hub.HfApi(endpoint=hub.endpoint, token=False).model_info("org/m", revision=revision)
        assert info.sha == commit


def test_errors_are_the_hubs(hub: Hub, tmp_path: pathlib.Path) -> None:
    errors = huggingface_hub.errors
    hub.push("org/m", {"x": b"1"})
    hub.push("org/gated", {"x": b"1"})
    hub.repositories["org/gated"].gated_for = {"hf_good"}
    with pytest.raises(errors.EntryNotFoundError):
        download(hub, tmp_path, "y")
    with pytest.raises(errors.RevisionNotFoundError):
        download(hub, tmp_path, "x", revision="nothing")
    with pytest.raises(errors.RepositoryNotFoundError):
        download(hub, tmp_path, "x", repo_id="org/absent")
    for token in (False, "hf_other"):
        with pytest.raises(errors.GatedRepoError):
            download(hub, tmp_path, "x", repo_id="org/gated", token=token)
    assert download(hub, tmp_path, "x", repo_id="org/gated", token="hf_good").read_bytes() == b"1"


def test_the_client_keeps_its_token_from_the_cdn(hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.push("org/m", {"model.safetensors": b"w" * 10000})
    download(hub, tmp_path, "model.safetensors", token="hf_secret")
    assert any("authorization" in request.headers for request in hub.asked("hub"))
    assert not any("authorization" in request.headers for request in hub.asked("cdn"))
