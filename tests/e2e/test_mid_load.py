"""What happens to a store in the middle of a load: objects replaced and deleted, keys that end."""

import pathlib
import shlex
import typing

import pytest
from keys import in_document, in_profile
from models import even_model
from shelves import Bucket, S3Server, Shelf, same

MIB = 1 << 20
SIZE = 16 * MIB
# Of the bytes of a load: its look at the object is over, and most of its requests are to come.
MIDDLE = 5 * MIB


def model(path: pathlib.Path, seed: int = 1) -> pathlib.Path:
    return even_model(path, SIZE, 4, seed)


def test_a_replaced_object_is_read_anew(shelf: Shelf, files: pathlib.Path) -> None:
    first, second = model(files / "1"), model(files / "2", seed=2)
    uri = shelf.put(first, "m.safetensors")
    shelf.gate.at(MIDDLE, lambda: shelf.put(second, "m.safetensors"))
    with shelf.attach(uri) as attached:
        assert same(attached, second)
    assert shelf.gate.waits() == 0
    assert 412 in shelf.gate.statuses()


def test_an_object_that_keeps_changing_is_given_up(shelf: Shelf, files: pathlib.Path) -> None:
    versions = [model(files / str(seed), seed=seed) for seed in range(4)]
    uri = shelf.put(versions[0], "m.safetensors")
    for i, path in enumerate(versions[1:]):
        # Each begins when the one before it has been found to be gone.
        shelf.gate.at(MIDDLE * (1 + i), lambda path=path: shelf.put(path, "m.safetensors"))
    error = shelf.refusal(uri)
    assert error.reason == "SOURCE_CHANGED"
    assert "keeps changing" in str(error)


def test_a_deleted_object_is_missed(shelf: Shelf, files: pathlib.Path) -> None:
    uri = shelf.put(model(files / "m"), "m.safetensors")
    shelf.gate.at(MIDDLE, lambda: shelf.delete("m.safetensors"))
    assert shelf.refusal(uri).reason == "MODEL_NOT_FOUND"
    assert shelf.gate.waits() == 0


def test_a_deleted_object_with_a_version_is_still_read(bucket_shelf: Bucket, files: pathlib.Path) -> None:
    shelf = bucket_shelf
    shelf.client.put_bucket_versioning(Bucket=shelf.name, VersioningConfiguration={"Status": "Enabled"})
    path = model(files / "m")
    uri = shelf.put(path, "m.safetensors")
    version = shelf.client.head_object(Bucket=shelf.name, Key="m.safetensors")["VersionId"]
    shelf.gate.at(MIDDLE, lambda: shelf.delete("m.safetensors"))
    with shelf.attach(f"{uri}?versionId={version}") as attached:
        assert same(attached, path)
    assert shelf.gate.waits() == 0


def write_profile(path: pathlib.Path, lines: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(f"[default]\n{lines}")
    fresh.replace(path)


@pytest.mark.parametrize("kind", ["file", "process"])
def test_keys_that_end_are_renewed(
    kind: str,
    server: S3Server,
    shelf_with: typing.Callable[..., Bucket],
    tmp_path: pathlib.Path,
    files: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = server.add_key(), server.add_key()
    profile, printed = tmp_path / "profile", tmp_path / "printed"

    def give(key: tuple[str, str]) -> None:
        if kind == "file":
            write_profile(profile, in_profile(key))
        else:
            printed.write_text(in_document(key))

    def rotate() -> None:
        give(new)
        server.remove_key(old)

    give(old)
    credentials = f"{{profile_file: {profile}}}"
    if kind == "process":
        write_profile(profile, f"credential_process = cat {shlex.quote(str(printed))}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
        credentials = "{allow_process: true}"
    shelf = shelf_with(credentials=credentials)
    path = model(files / "m")
    uri = shelf.put(path, "m.safetensors")
    shelf.gate.at(MIDDLE, rotate)
    with shelf.attach(uri) as attached:
        assert same(attached, path)
    requests = "".join(shelf.gate.requests())
    assert f"Credential={old[0]}/" in requests and f"Credential={new[0]}/" in requests


@pytest.mark.parametrize("kind", ["the configuration", "the environment"])
def test_keys_that_end_for_good_are_named_by_their_kind(
    kind: str,
    server: S3Server,
    shelf_with: typing.Callable[..., Bucket],
    tmp_path: pathlib.Path,
    files: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = server.add_key()
    if kind == "the environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key[1])
    write_profile(tmp_path / "profile", in_profile(key))
    credentials = f"{{profile_file: {tmp_path}/profile}}" if kind == "the configuration" else "{}"
    shelf = shelf_with(credentials=credentials)
    uri = shelf.put(model(files / "m"), "m.safetensors")
    shelf.gate.at(MIDDLE, lambda: server.remove_key(key))
    error = shelf.refusal(uri)
    assert error.reason == "SOURCE_DENIED"
    assert kind in str(error) and "InvalidAccessKeyId" in str(error)
    told = str(error) + error.hint + shelf.daemon.log() + shelf.daemon.ctl("ls").stdout
    assert key[0] not in told and key[1] not in told and str(tmp_path / "profile") not in str(error)
