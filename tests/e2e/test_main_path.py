"""The main job: a file on a server or a disk becomes one segment that processes map."""

import hashlib
import pathlib
import typing

import pytest
from models import expected, sharded_model, small_model, write_model
from processes import Daemon, Nginx, Reader, binary, wait_until

Readers = typing.Callable[[Daemon], Reader]
Daemons = typing.Callable[..., Daemon]


def digest_of(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for _, data in sorted(expected(path).items()):
        digest.update(data)
    return digest.hexdigest()


@pytest.mark.parametrize("place", ["http", "file", "path"])
def test_one_file_reaches_two_processes(
    daemon: Daemon, web: Nginx, files: pathlib.Path, readers: Readers, place: str
) -> None:
    path = small_model(files / "model.safetensors")
    model = {"http": web.url(path.name), "file": f"file://{path}", "path": str(path)}[place]
    daemon.ctl("preload", model)
    first, second = readers(daemon), readers(daemon)
    assert first.ask("attach", model=model) == second.ask("attach", model=model)
    assert first.ask("digest")["digest"] == second.ask("digest")["digest"] == digest_of(path)
    assert daemon.status()["leases"] == 2
    listed = daemon.ctl_json("ls")["models"]
    assert [(m["state"], m["leases"]) for m in listed] == [("RESIDENT", 2)]
    first.end()
    second.end()


@pytest.mark.parametrize("place", ["http", "file"])
def test_sharded_folder(daemon: Daemon, web: Nginx, files: pathlib.Path, readers: Readers, place: str) -> None:
    folder = sharded_model(files / "llama", shards=3)
    model = web.url("llama/") if place == "http" else f"file://{folder}"
    reader = readers(daemon)
    assert reader.ask("attach", model=model)["tensors"] == 6
    tensors = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
    digest = hashlib.sha256()
    for _, data in sorted(tensors.items()):
        digest.update(data)
    assert reader.ask("digest")["digest"] == digest.hexdigest()


def test_alias_preloaded_and_pinned_by_the_config(daemons: Daemons, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "model.safetensors")
    daemon = daemons(f"models:\n  - name: minilm\n    uri: file://{path}\n    preload: true\n    pin: true\n")
    reader = readers(daemon)
    reader.ask("attach", model="minilm")
    assert reader.ask("digest")["digest"] == digest_of(path)
    shown = daemon.ctl_json("ls")["models"]
    assert shown[0]["pinned"] and shown[0]["aliases"] == ["minilm"]


def test_unaligned_tensors_are_realigned(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = write_model(files / "m.safetensors", {"a": ("U8", [3]), "b": ("F32", [1000]), "c": ("I64", [77])})
    reader = readers(daemon)
    reader.ask("attach", model=str(path))
    assert reader.ask("digest")["digest"] == digest_of(path)


def test_a_hundred_thousand_tensors(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = write_model(files / "m.safetensors", {f"tensor.{i}": ("F32", [1]) for i in range(100_000)})
    reader = readers(daemon)
    assert reader.ask("attach", model=str(path))["tensors"] == 100_000
    page = daemon.ctl_json("show", str(path), "--tensors")
    assert len(page["tensors"]) == 100_000


def test_a_new_revision_takes_over_and_the_old_one_stays_readable(
    daemons: Daemons, files: pathlib.Path, readers: Readers
) -> None:
    daemon = daemons("cache:\n  revalidate: always\n")
    path = small_model(files / "model.safetensors", seed=1)
    old = digest_of(path)
    first = readers(daemon)
    revision = first.ask("attach", model=str(path))["revision"]
    small_model(files / "next", seed=2).replace(path)
    second = readers(daemon)

    def has_new_revision() -> bool:
        if second.ask("attach", model=str(path))["revision"] != revision:
            return True
        second.ask("release")
        return False

    wait_until(has_new_revision, "the new revision is resident")
    assert second.ask("digest")["digest"] == digest_of(path) != old
    assert first.ask("digest")["digest"] == old


def test_check_and_print_config(files: pathlib.Path) -> None:
    import subprocess

    config = files / "weightd.yaml"
    config.write_text("host:\n  budget: 2GiB\n")
    checked = subprocess.run([binary("daemon/weightd"), "--config", config, "--check-config"], check=False)
    assert checked.returncode == 0
    printed = subprocess.run(
        [binary("daemon/weightd"), "--config", config, "--print-config"], capture_output=True, text=True, check=True
    )
    assert "budget: 2GiB" in printed.stdout
    config.write_text("host:\n  budget: 2GiB\n  bugdet: 1\n")
    bad = subprocess.run(
        [binary("daemon/weightd"), "--config", config, "--check-config"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 64
    assert "bugdet" in bad.stderr and ":3" in bad.stderr
