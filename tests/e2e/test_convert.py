"""`weightctl convert` and `verify`: files that tensorizer and safetensors made, and files that they read."""

import functools
import http.server
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import typing

import numpy as np
import pytest
import safetensors.numpy
import weightd
import weightd.serialization
from models import small_model, write_model
from processes import PATIENCE, ROOT, Daemon, Nginx, binary, wait_until
from shelves import S3Server
from test_tensorizer import KEY, NEWEST, PASSWORD, found
from users import NOBODY, as_user

Corpora = typing.Callable[[str], pathlib.Path]
READ_TENSORS = pathlib.Path(__file__).parent / "read_tensors.py"


def weightctl(*arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [binary("client/cli/weightctl"), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert done.returncode == code, done.stderr
    return done


def read_by_tensorizer(path: pathlib.Path, *secret: str) -> dict[str, list]:
    """What tensorizer itself finds in a file, its hashes verified."""
    done = subprocess.run(
        [sys.executable, str(READ_TENSORS), str(path), *secret],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".venv" / "tensorizer" / NEWEST)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return typing.cast(dict[str, list], json.loads(done.stdout))


def contents(path: pathlib.Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of each tensor of a safetensors file."""
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    header.pop("__metadata__", None)
    return {
        name: (one["dtype"], one["shape"], raw[begin + one["data_offsets"][0] : begin + one["data_offsets"][1]])
        for name, one in header.items()
    }


@pytest.fixture
def secrets(tmp_path: pathlib.Path) -> dict[str, str]:
    """Files of the corpora that are encrypted, and what opens them."""
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return {
        "key.tensors": f"key-file={tmp_path}/key",
        "password.tensors": f"password-file={tmp_path}/password",
    }


@pytest.mark.plain_only
def test_tensorizer_reads_what_was_written(
    daemon: Daemon, corpora: Corpora, secrets: dict[str, str], tmp_path: pathlib.Path
) -> None:
    folder = corpora(NEWEST)
    for name, tensors in json.loads((folder / "expected.json").read_text()).items():
        out = tmp_path / f"new-{name}"
        key = ["--key", secrets[name]] if name in secrets else []
        weightctl("convert", folder / name, out, *key)
        with weightd.attach(str(out), socket_dir=str(daemon.socket_dir), timeout=60) as model:
            assert found(model) == tensors, name
            assert model.verified_tensors.unverified == 0
        if name != "nested.tensors":  # whose names tensorizer gives in a form of its own
            assert read_by_tensorizer(out) == tensors, name


@pytest.mark.plain_only
def test_tensorizer_opens_what_was_encrypted(corpora: Corpora, secrets: dict[str, str], tmp_path: pathlib.Path) -> None:
    folder = corpora(NEWEST)
    tensors = json.loads((folder / "expected.json").read_text())["key.tensors"]
    for kind, secret in (("key", KEY.hex()), ("password", PASSWORD)):
        out = tmp_path / f"{kind}.out.tensors"
        how = secrets[f"{kind}.tensors"]
        weightctl("convert", folder / "key.tensors", out, "--key", secrets["key.tensors"], "--encrypt", how)
        assert read_by_tensorizer(out, f"{kind}={secret}") == tensors
        rows = json.loads(weightctl("verify", out, "--key", how, "-o", "json").stdout)["tensors"]
        assert len(rows) == len(tensors)
        assert all(row["poly1305"] and row["sha256"] and not row["error"] for row in rows)


def test_from_a_web_server_to_safetensors_and_back(web: Nginx, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    small_model(files / "model.safetensors")
    weightctl("convert", web.url("model.safetensors"), tmp_path / "a.tensors")
    weightctl("convert", tmp_path / "a.tensors", tmp_path / "b.safetensors")
    assert contents(tmp_path / "b.safetensors") == contents(files / "model.safetensors")


def test_small_tensors_come_in_few_requests(web: Nginx, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = write_model(files / "model.safetensors", {f"layer.{i}": ("U8", [9000 + i % 7]) for i in range(1200)})
    weightctl("convert", web.url("model.safetensors"), files / "model.tensors")
    weightctl("verify", web.url("model.tensors"))
    weightctl("convert", web.url("model.tensors"), tmp_path / "back.safetensors")
    assert contents(tmp_path / "back.safetensors") == contents(model)
    assert 0 < len(web.requests("model.safetensors")) <= 20
    assert 0 < len(web.requests("model.tensors")) <= 40


def test_a_store_that_takes_nothing_is_told_first(server: S3Server, bucket: str, tmp_path: pathlib.Path) -> None:
    environment = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "TMPDIR": str(tmp_path),
    }
    nothing = tmp_path / "none.safetensors"
    told = weightctl("convert", nothing, f"s3://{bucket}/m.tensors", code=66, **environment).stderr
    assert "there is no such bucket" in told
    client = server.client()
    client.create_bucket(Bucket=bucket)
    for options in ([f"s3://{bucket}/m.tensors"], [f"s3://{bucket}/shards", "--shard-size", "1kB"]):
        assert "none.safetensors" in weightctl("convert", nothing, *options, code=66, **environment).stderr
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_key_that_a_store_refuses_is_told_first(server: S3Server, bucket: str, tmp_path: pathlib.Path) -> None:
    server.client().create_bucket(Bucket=bucket)
    environment = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": "not-the-secret-key",
    }
    target = f"s3://{bucket}/m.tensors"
    told = weightctl("convert", tmp_path / "none.safetensors", target, code=77, **environment).stderr
    assert "not-the-secret-key" not in told and "none.safetensors" not in told


def test_from_store_to_store(server: S3Server, bucket: str, tmp_path: pathlib.Path) -> None:
    small_model(tmp_path / "model.safetensors")
    client = server.client()
    client.create_bucket(Bucket=bucket)
    client.upload_file(str(tmp_path / "model.safetensors"), bucket, "in/model.safetensors")
    environment = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "TMPDIR": str(tmp_path),
    }
    weightctl("convert", f"s3://{bucket}/in/", f"s3://{bucket}/out/m.tensors", **environment)
    shards = f"s3://{bucket}/shards/"
    weightctl("convert", f"s3://{bucket}/out/m.tensors", shards, "--shard-size", "1kB", **environment)
    weightctl("convert", shards, tmp_path / "back.safetensors", **environment)
    assert contents(tmp_path / "back.safetensors") == contents(tmp_path / "model.safetensors")
    assert "proved" in weightctl("verify", f"s3://{bucket}/out/m.tensors", **environment).stdout
    assert not list(tmp_path.glob("weightctl.*"))
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


class Versionless(http.server.SimpleHTTPRequestHandler):
    """Sends files, and no ETag."""

    def log_message(self, *_: object) -> None:
        pass


def test_versions_that_cannot_be_told_apart_are_refused(tmp_path: pathlib.Path) -> None:
    small_model(tmp_path / "model.safetensors")
    out = tmp_path / "out.tensors"
    handler = functools.partial(Versionless, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        uri = f"http://127.0.0.1:{server.server_port}/model.safetensors"
        try:
            assert "say --unpinned" in weightctl("convert", uri, out, code=77).stderr
            assert not out.exists()
            weightctl("convert", uri, out, "--unpinned")
        finally:
            server.shutdown()
    weightctl("convert", out, tmp_path / "back.safetensors")
    assert contents(tmp_path / "back.safetensors") == contents(tmp_path / "model.safetensors")


def test_a_kill_leaves_no_half_file(tmp_path: pathlib.Path) -> None:
    source, out = tmp_path / "model.safetensors", tmp_path / "out.tensors"
    safetensors.numpy.save_file({"large": np.zeros(256 << 20, dtype=np.uint8)}, source)
    process = subprocess.Popen([binary("client/cli/weightctl"), "convert", str(source), str(out)])
    wait_until(lambda: list(tmp_path.glob(".out.tensors.*")) or process.poll() is not None, "a draft")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()


def test_wrong_input_is_told_apart(tmp_path: pathlib.Path, secrets: dict[str, str]) -> None:
    small_model(tmp_path / "model.safetensors")
    model, out = tmp_path / "model.safetensors", tmp_path / "out.tensors"
    assert "none.safetensors" in weightctl("convert", tmp_path / "none.safetensors", out, code=66).stderr
    assert "ends with neither" in weightctl("convert", model, tmp_path / "out", code=64).stderr
    assert "exists already" in weightctl("convert", model, model, code=73).stderr
    assert (
        "only tensorizer"
        in weightctl("convert", model, tmp_path / "x.safetensors", "--encrypt", secrets["key.tensors"], code=64).stderr
    )
    told = weightctl("convert", model, out, "--encrypt", "hunter2", code=64).stderr
    assert "key-file=PATH" in told and "hunter2" not in told
    weightctl("convert", model, out, "--encrypt", "password-env=SECRET", SECRET="hunter2")
    assert "no key was given" in weightctl("convert", out, tmp_path / "x.safetensors", code=77).stderr
    told = weightctl("verify", out, "--key", "password-env=SECRET", code=77, SECRET="mistyped").stderr
    assert "not encrypted with this password" in told and "mistyped" not in told
    (tmp_path / "bad.tensors").write_bytes(b"|TZR|" + bytes(100))
    assert "byte 5" in weightctl("verify", tmp_path / "bad.tensors", code=65).stderr
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["model.safetensors"]


def test_damage_is_not_blamed_on_the_key(tmp_path: pathlib.Path, secrets: dict[str, str]) -> None:
    small_model(tmp_path / "model.safetensors")
    encrypted, out = tmp_path / "encrypted.tensors", tmp_path / "out.safetensors"
    weightctl("convert", tmp_path / "model.safetensors", encrypted, "--encrypt", secrets["key.tensors"])
    (tmp_path / "other").write_bytes(bytes(32))
    assert (
        "look whether this is the key"
        in weightctl("convert", encrypted, out, "--key", f"key-file={tmp_path}/other", code=77).stderr
    )
    damaged = bytearray(encrypted.read_bytes())
    damaged[300 << 10] ^= 1  # behind 256 KiB of metadata and a record's header: the first tensor
    encrypted.write_bytes(damaged)
    told = weightctl("convert", encrypted, out, "--key", secrets["key.tensors"], code=65).stderr
    assert "tensor embed.weight" in told and "was changed" in told
    verified = weightctl("verify", encrypted, "--key", secrets["key.tensors"], code=65)
    assert "4 proved, 0 without a checksum, 1 wrong" in verified.stdout
    assert not out.exists()


def test_zeros_that_no_disk_has_room_for_are_refused(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    zeros, out = tmp_path / "zeros.tensors", tmp_path / "out.safetensors"
    weightd.serialization.save_file({"zeros": torch.empty(1 << 48, dtype=torch.uint8, device="meta")}, zeros)
    told = weightctl("convert", zeros, out, code=74).stderr
    assert f"it would have {1 << 48} bytes" in told
    assert [path.name for path in tmp_path.iterdir()] == ["zeros.tensors"]
    weightctl("convert", zeros, tmp_path / "out.tensors")


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> typing.Iterator[pathlib.Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_or_read_only(small_disk: pathlib.Path, tmp_path: pathlib.Path) -> None:
    safetensors.numpy.save_file({"large": np.zeros(2 << 20, dtype=np.uint8)}, tmp_path / "m.safetensors")
    for out, more in (("out.tensors", []), ("folder", ["--shard-size", "8MB"])):
        told = weightctl("convert", tmp_path / "m.safetensors", small_disk / out, *more, code=74).stderr
        assert "No space left" in told and "make room" in told and str(small_disk) in told
        assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    told = weightctl("convert", tmp_path / "m.safetensors", small_disk / "out.tensors", code=73).stderr
    assert "Read-only file system" in told


def test_an_output_that_may_not_be_made_or_becomes_too_large(reachable: pathlib.Path) -> None:
    model = small_model(reachable / "model.safetensors")
    # Others have no way to where it was built.
    own = shutil.copy(binary("client/cli/weightctl"), reachable)
    command = [own, "-o", "json", "convert", str(model)]

    def convert(out: pathlib.Path) -> tuple[int, str]:
        done = subprocess.run([*command, str(out)], capture_output=True, text=True)
        return done.returncode, json.loads(done.stderr)["error"]["reason"]

    assert convert(reachable / "none" / "out.tensors") == (73, "OUTPUT_NOT_CREATED")
    assert as_user(NOBODY, lambda: convert(reachable / "out.tensors")) == (73, "OUTPUT_NOT_CREATED")

    def limited() -> tuple[int, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return convert(reachable / "out.tensors")

    assert as_user(os.getuid(), limited) == (74, "OUTPUT_NOT_WRITTEN")
    assert sorted(path.name for path in reachable.iterdir()) == ["model.safetensors", "weightctl"]


def test_a_damaged_tensor_is_named(tmp_path: pathlib.Path) -> None:
    tensors = {"good": np.arange(100, dtype=np.float32), "bad": np.ones(100, dtype=np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors")
    weightctl("convert", tmp_path / "m.safetensors", tmp_path / "m.tensors")
    damaged = bytearray((tmp_path / "m.tensors").read_bytes())
    damaged[damaged.index(tensors["bad"].tobytes())] ^= 1
    (tmp_path / "m.tensors").write_bytes(damaged)
    verified = weightctl("verify", tmp_path / "m.tensors", code=65)
    assert "1 proved, 0 without a checksum, 1 wrong" in verified.stdout
    assert "tensor bad at byte" in verified.stderr
