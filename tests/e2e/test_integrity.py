"""What somebody says the bytes are is verified before anybody gets them: checksums of stores, pins."""

import hashlib
import pathlib
import typing

import pytest
import weightd
from checksum_store import ChecksumStore, composite, whole
from models import sharded_model, small_model
from processes import Daemon
from shelves import Bucket, Moto, same

Daemons = typing.Callable[..., Daemon]

DATA_LOSS = 65  # weightctl's exit code for bytes that are not what they should be


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attach(daemon: Daemon, uri: str, **options: typing.Any) -> weightd.Model:
    return weightd.attach(uri, socket_dir=str(daemon.socket_dir), framework="np", timeout=60, **options)


def daemon_of(daemons: Daemons, store: ChecksumStore) -> Daemon:
    return daemons(
        f"""
sources:
  s3:
    stores:
      - {{name: s, buckets: [bucket], endpoint: "{store.endpoint}", credentials: {{anonymous: true}}}}
"""
    )


def cut(path: pathlib.Path, size: int) -> list[bytes]:
    data = path.read_bytes()
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("kind", ["CRC32", "SHA256"])
def test_a_real_store_s_checksum_is_verified(
    moto: Moto, bucket: str, daemons: Daemons, tmp_path: pathlib.Path, files: pathlib.Path, kind: str
) -> None:
    shelf = Bucket(moto, bucket, daemons, tmp_path)
    path = small_model(files / "m.safetensors")
    shelf.client.put_object(Bucket=bucket, Key="m.safetensors", Body=path.read_bytes(), ChecksumAlgorithm=kind)
    with shelf.attach(shelf.uri("m.safetensors")) as model:
        assert same(model, path)
        (check,) = model.verified
        assert (check.file, check.kind, check.by) == ("m.safetensors", kind.lower(), "store")
        if kind == "SHA256":
            assert check.value == sha256(path)
    shelf.end()


@pytest.mark.parametrize("parts", [1, 3])
def test_checksums_of_objects_and_of_parts(daemons: Daemons, files: pathlib.Path, parts: int) -> None:
    path = small_model(files / "m.safetensors")
    pieces = cut(path, path.stat().st_size // parts + 1)
    says = whole(path.read_bytes()) if parts == 1 else composite(pieces)
    with ChecksumStore(pieces, says) as store:
        daemon = daemon_of(daemons, store)
        with attach(daemon, "s3://bucket/m.safetensors") as model:
            assert same(model, path)
            (check,) = model.verified
            assert check.kind == ("crc64nvme" if parts == 1 else "sha256")
            assert check.value.endswith("-3") == (parts == 3)
        shown = daemon.ctl("show", "s3://bucket/m.safetensors").stdout
        assert f"{check.file}  {check.kind} {check.value} (store)" in shown
        described = daemon.ctl_json("show", "s3://bucket/m.safetensors")
        assert described["verification"]["files"][0]["value"] == check.value


@pytest.mark.parametrize("parts", [1, 3])
def test_a_flipped_bit_is_seen_by_nobody(daemons: Daemons, files: pathlib.Path, parts: int) -> None:
    path = small_model(files / "m.safetensors")
    pieces = cut(path, path.stat().st_size // parts + 1)
    says = whole(path.read_bytes()) if parts == 1 else composite(pieces)
    with ChecksumStore(pieces, says, flip=1_500_000) as store:
        daemon = daemon_of(daemons, store)
        with pytest.raises(weightd.MalformedModelError) as caught:
            attach(daemon, "s3://bucket/m.safetensors")
        assert caught.value.reason == "VERIFICATION_FAILED"
        assert "m.safetensors" in str(caught.value)
        assert "the store says" in str(caught.value)
        failed = daemon.ctl("preload", "s3://bucket/m.safetensors", check=False)
        assert failed.returncode == DATA_LOSS, failed.stderr
        assert daemon.status()["host"]["resident"] == 0


def test_pins_of_requests(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    digest = sha256(path)
    wrong = "0" * 64
    for _ in range(2):  # while it is loaded, and on what is resident
        with pytest.raises(weightd.MalformedModelError) as caught:
            attach(daemon, str(path), sha256=wrong)
        assert caught.value.reason == "VERIFICATION_FAILED"
        assert digest in str(caught.value)
    with attach(daemon, str(path)) as model:
        assert model.verified == []
    for pins in (digest, digest.upper(), {"m.safetensors": digest}):
        with attach(daemon, str(path), sha256=pins) as model:
            assert same(model, path)
            assert model.verified == [weightd.FileCheck("m.safetensors", "sha256", digest, "pin")]
    many = {f"model-{i:05}-of-00500.safetensors": digest for i in range(500)}  # as many as a request may have
    more = {f"model-{i:05}-of-02000.safetensors": digest for i in range(2000)}
    for pins in ("", "12", 12, {"other.safetensors": digest}, {"m.safetensors": 12}, many, more):
        with pytest.raises(weightd.InvalidRequestError):
            attach(daemon, str(path), sha256=pins)


def test_pins_of_several_files(daemon: Daemon, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    pins = {path.name: sha256(path) for path in folder.glob("*.safetensors")}
    with attach(daemon, str(folder), sha256=pins) as model:
        assert {check.file: check.value for check in model.verified} == pins
    with pytest.raises(weightd.InvalidRequestError):
        attach(daemon, str(folder), sha256="0" * 64)
    first, second, third = sorted(pins)
    swapped = {first: pins[second], second: pins[first], third: pins[third]}
    with pytest.raises(weightd.MalformedModelError):
        attach(daemon, str(folder), sha256=swapped)


def test_pins_of_operators(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    failed = daemon.ctl("preload", str(path), "--pin", "--sha256", "0" * 64, check=False)
    assert failed.returncode == DATA_LOSS, failed.stderr
    assert sha256(path) in failed.stderr
    daemon.ctl("preload", str(path), "--pin", "--sha256", f"m.safetensors={sha256(path)}")
    assert f"m.safetensors  sha256 {sha256(path)} (pin)" in daemon.ctl("show", str(path)).stdout
    assert daemon.ctl("preload", str(path), "--sha256", "12", check=False).returncode == 64


def test_pins_of_the_config_bind_everybody(daemons: Daemons, files: pathlib.Path) -> None:
    good, bad = small_model(files / "good.safetensors"), small_model(files / "bad.safetensors", seed=2)
    daemon = daemons(
        f"""
models:
  - {{name: good, uri: "{good}", sha256: [{sha256(good)}]}}
  - {{name: bad, uri: "{bad}", sha256: [{sha256(good)}]}}
"""
    )
    with attach(daemon, "good") as model:
        assert model.verified == [weightd.FileCheck("good.safetensors", "sha256", sha256(good), "pin")]
    for name in ("bad", str(bad)):
        with pytest.raises(weightd.MalformedModelError) as caught:
            attach(daemon, name)
        assert caught.value.reason == "VERIFICATION_FAILED"
