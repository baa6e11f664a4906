"""`weightctl push` to S3-compatible stores: Ceph's RADOS Gateway and moto, through a proxy that sees all requests."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import typing

import pytest
import weightd
from models import even_model, expected, sharded_model, small_model
from processes import PATIENCE, Daemon, binary, wait_until
from s3_proxy import Request, S3Proxy
from shelves import Moto, Rgw, S3Server

INDEX = "model.safetensors.index.json"
PART = 16 << 20  # bytes of one part


class Store:
    """A bucket of the test's own behind a proxy, and whoever pushes to it."""

    def __init__(self, server: S3Server, bucket: str, home: pathlib.Path) -> None:
        self.server, self.bucket = server, bucket
        self.client = server.client()
        self.client.create_bucket(Bucket=self.bucket)
        self.proxy = S3Proxy(server.endpoint)
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": self.proxy.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        } | {name: value for name, value in os.environ.items() if "SAN_OPTIONS" in name}

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def start(self, path: pathlib.Path, key: str, *options: str) -> subprocess.Popen[str]:
        """Begins a push."""
        command = [binary("client/cli/weightctl"), "push", str(path), self.uri(key), *options]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def push(self, path: pathlib.Path, key: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Pushes and waits; the exit code must be `code`."""
        process = self.start(path, key, *options)
        out, err = process.communicate(timeout=5 * PATIENCE)
        assert process.returncode == code, err
        return subprocess.CompletedProcess(process.args, code, out, err)

    def names(self) -> list[str]:
        """What lies in the bucket."""
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def bytes(self, key: str) -> bytes:
        return typing.cast(bytes, self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def unfinished(self) -> int:
        """How many uploads were begun and not ended."""
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


@pytest.fixture
def store(server: S3Server, bucket: str, tmp_path: pathlib.Path) -> typing.Iterator[Store]:
    store = Store(server, bucket, tmp_path)
    yield store
    store.proxy.close()


@pytest.fixture
def rgw_store(rgw: Rgw, bucket: str, tmp_path: pathlib.Path) -> typing.Iterator[Store]:
    store = Store(rgw, bucket, tmp_path)
    yield store
    store.proxy.close()


def large_model(path: pathlib.Path) -> pathlib.Path:
    """A file of six parts, the last one short."""
    return even_model(path, 5 * PART + (1 << 20), 8)


class Gate:
    """A judge that holds requests for parts beyond the `free` first, and refuses them when it opens."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._open = threading.Event()

    def __call__(self, request: Request) -> int | None:
        if request.part:
            with self._lock:
                self._free -= 1
                held = self._free < 0
            if held:
                self._open.wait(PATIENCE)
                return 503
        return None

    def open(self) -> None:
        self._open.set()


def stored_parts(store: Store) -> int:
    """Parts of the bucket's unfinished uploads."""
    uploads = store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    return sum(
        len(store.client.list_parts(Bucket=store.bucket, Key=up["Key"], UploadId=up["UploadId"]).get("Parts", []))
        for up in uploads
    )


def test_what_is_pushed_can_be_loaded(store: Store, daemons: typing.Callable[..., Daemon], files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    (folder / "config.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "notes").write_text("not for others")
    done = store.push(folder, "models/llama")
    assert done.stdout == f"s3://{store.bucket}/models/llama: 5 files, 2.3 MiB\n"
    assert store.names() == sorted(f"models/llama/{path.name}" for path in folder.iterdir() if path.is_file())
    secret = files / "secret"
    secret.write_text(store.server.secret_key)
    daemon = daemons(
        f"sources: {{s3: {{stores: [{{name: s, buckets: [{store.bucket}], endpoint: '{store.server.endpoint}',"
        f" credentials: {{access_key_id: {store.server.access_key}, secret_key_file: {secret}}}}}]}}}}"
    )
    daemon.ctl("preload", store.uri("models/llama"))
    uri, place = store.uri("models/llama"), str(daemon.socket_dir)
    with weightd.attach(uri, socket_dir=place, framework="np", timeout=60) as model:
        truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
        assert {name: bytes(model.raw(name)) for name in model.tensors} == truth


@pytest.mark.parametrize("key", ["m.safetensors", "a b/ü+=&;@,$'()*!~/m.safetensors"])
def test_a_large_file_goes_in_parts(store: Store, files: pathlib.Path, key: str) -> None:
    path = large_model(files / "m.safetensors")
    answer = json.loads(store.push(path, key, "--output", "json").stdout)
    (file,) = answer["files"]
    assert (file["bytes"], file["bytes_sent"], file["was_there"]) == (path.stat().st_size, path.stat().st_size, False)
    assert sorted(store.proxy.parts()) == [1, 2, 3, 4, 5, 6]
    assert store.bytes(key) == path.read_bytes()
    assert store.unfinished() == 0


def test_an_object_has_a_checksum_where_the_store_keeps_them(moto: Moto, bucket: str, tmp_path: pathlib.Path) -> None:
    store = Store(moto, bucket, tmp_path)
    path = small_model(tmp_path / "m.safetensors")
    store.push(path, "m.safetensors")
    head = store.client.head_object(Bucket=store.bucket, Key="m.safetensors", ChecksumMode="ENABLED")
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(path.read_bytes()).digest()
    store.proxy.close()


def test_what_is_there_is_not_sent_again(store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=2)
    large_model(folder / "large.safetensors")
    store.push(folder, "llama/")
    store.proxy.requests.clear()
    assert "there" in store.push(folder, "llama/").stdout
    assert {request.method for request in store.proxy.requests} == {"HEAD"}
    (folder / "config.json").write_text("{}")
    store.push(folder, "llama/")
    assert [request.key for request in store.proxy.requests if request.method != "HEAD"] == ["llama/config.json"]


def test_an_object_of_the_same_size_with_other_bytes_is_replaced(store: Store, files: pathlib.Path) -> None:
    store.push(small_model(files / "1.safetensors", seed=1), "m.safetensors")
    path = small_model(files / "2.safetensors", seed=2)
    store.push(path, "m.safetensors")
    assert store.bytes("m.safetensors") == path.read_bytes()


def test_a_killed_push_goes_on_where_it_was(rgw_store: Store, files: pathlib.Path) -> None:
    store = rgw_store
    path = large_model(files / "m.safetensors")
    store.proxy.judge = gate = Gate(free=4)
    process = store.start(path, "m.safetensors")
    wait_until(lambda: stored_parts(store) == 4, "four parts are stored")
    process.kill()
    process.communicate()
    gate.open()
    store.proxy.judge = lambda _: None
    store.proxy.requests.clear()
    done = json.loads(store.push(path, "m.safetensors", "-o", "json").stdout)
    assert len(store.proxy.parts()) == 2
    rest = path.stat().st_size - 5 * PART
    assert done["files"][0]["bytes_sent"] == sum(rest if part == 6 else PART for part in store.proxy.parts())
    assert store.bytes("m.safetensors") == path.read_bytes()
    assert store.unfinished() == 0


def test_parts_of_another_file_are_not_taken_up(store: Store, files: pathlib.Path) -> None:
    upload = store.client.create_multipart_upload(Bucket=store.bucket, Key="m.safetensors")["UploadId"]
    name = {"Bucket": store.bucket, "Key": "m.safetensors", "UploadId": upload}
    store.client.upload_part(PartNumber=1, Body=b"x" * PART, **name)
    path = large_model(files / "m.safetensors")
    store.push(path, "m.safetensors")
    assert store.bytes("m.safetensors") == path.read_bytes()
    assert store.unfinished() == 0


def test_an_upload_that_is_cut_in_another_way_is_aborted(store: Store, files: pathlib.Path) -> None:
    upload = store.client.create_multipart_upload(Bucket=store.bucket, Key="m.safetensors")["UploadId"]
    path = large_model(files / "m.safetensors")
    begin = path.read_bytes()[: 8 << 20]
    name = {"Bucket": store.bucket, "Key": "m.safetensors", "UploadId": upload}
    store.client.upload_part(PartNumber=1, Body=begin, **name)
    store.push(path, "m.safetensors")
    assert store.bytes("m.safetensors") == path.read_bytes()
    assert store.unfinished() == 0


def test_an_interrupted_push_leaves_nothing(store: Store, files: pathlib.Path) -> None:
    path = large_model(files / "m.safetensors")
    store.proxy.judge = gate = Gate(free=2)
    process = store.start(path, "m.safetensors")
    wait_until(lambda: stored_parts(store) == 2, "two parts are stored")
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored where a shell runs the tests in the background
    _, err = process.communicate(timeout=PATIENCE)
    gate.open()
    assert process.returncode == 75 and "interrupted" in err
    assert store.unfinished() == 0 and store.names() == []


def test_a_push_that_ignores_the_hang_up_goes_on(store: Store, files: pathlib.Path) -> None:
    path = large_model(files / "m.safetensors")
    store.proxy.judge = gate = Gate(free=2)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    process = store.start(path, "m.safetensors")
    signal.signal(signal.SIGHUP, before)
    wait_until(lambda: stored_parts(store) == 2, "two parts are stored")
    process.send_signal(signal.SIGHUP)
    store.proxy.judge = lambda _: None
    gate.open()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert store.bytes("m.safetensors") == path.read_bytes()


def test_a_file_that_changes_is_not_pushed(store: Store, files: pathlib.Path) -> None:
    path = large_model(files / "m.safetensors")
    store.proxy.judge = gate = Gate(free=2)
    process = store.start(path, "m.safetensors")
    wait_until(lambda: stored_parts(store) == 2, "two parts are stored")
    with path.open("r+b") as file:
        file.seek(3 * PART)
        file.write(b"changed")
    gate.open()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75 and str(path) in err and "changed" in err
    assert store.unfinished() == 0 and store.names() == []


def test_a_wrong_key_is_said_without_telling_it(store: Store, files: pathlib.Path) -> None:
    store.environment["AWS_SECRET_ACCESS_KEY"] = "not-the-secret-key"
    err = store.push(small_model(files / "m.safetensors"), "m.safetensors", code=77).stderr
    assert "credentials from the environment" in err and store.uri("m.safetensors") in err
    assert "not-the-secret-key" not in err and store.server.access_key not in err


def test_a_profile_goes_before_keys_of_the_environment(store: Store, files: pathlib.Path) -> None:
    folder = pathlib.Path(store.environment["HOME"]) / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[pusher]\naws_access_key_id={store.server.access_key}\naws_secret_access_key={store.server.secret_key}\n"
    )
    store.environment["AWS_SECRET_ACCESS_KEY"] = "not-the-secret-key"
    path = small_model(files / "m.safetensors")
    store.push(path, "m.safetensors", "--profile", "pusher")
    assert store.bytes("m.safetensors") == path.read_bytes()
    assert "nobody" in store.push(path, "m.safetensors", "--profile", "nobody", code=64).stderr


def test_readers_never_see_some_shards_for_all(store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    large_model(folder / "large.safetensors")
    index = f"llama/{INDEX}"
    seen: list[list[str]] = []

    def watch(request: Request) -> None:
        if request.makes_object:
            names = store.names()
            if request.key != index:
                assert b"being-pushed" in store.bytes(index)
            seen.append(names)

    store.proxy.judge = watch
    store.push(folder, "llama/")
    assert seen[0] == [] and len(seen[-1]) == 5
    assert store.proxy.requests[-1].key == index
    assert store.bytes(index) == (folder / INDEX).read_bytes()
    # All bytes of the large file were there before the first object was.
    first = next(i for i, request in enumerate(store.proxy.requests) if request.makes_object)
    assert not any(request.part for request in store.proxy.requests[first:])


def test_readers_never_see_new_weights_for_old_ones(store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=2)
    store.push(folder, "llama/")
    first = folder / "model-00001-of-00002.safetensors"
    changed = bytearray(first.read_bytes())
    changed[-1] ^= 1
    first.write_bytes(changed)
    index = f"llama/{INDEX}"
    seen: list[str] = []

    def watch(request: Request) -> None:
        if request.makes_object:
            seen.append(request.key)
            assert (request.key == index) or b"being-pushed" in store.bytes(index)

    store.proxy.judge = watch
    store.push(folder, "llama/")
    assert seen == [index, f"llama/{first.name}", index]
    assert store.bytes(index) == (folder / INDEX).read_bytes()


def test_readers_of_a_model_that_stays_go_on(store: Store, files: pathlib.Path) -> None:
    folders = [sharded_model(files / "models" / name, shards=2) for name in ("a", "b")]
    store.push(files / "models", "models/")
    shard = folders[0] / "model-00001-of-00002.safetensors"
    changed = bytearray(shard.read_bytes())
    changed[-1] ^= 1
    shard.write_bytes(changed)
    seen: list[str] = []

    def watch(request: Request) -> None:
        if request.makes_object:
            seen.append(request.key)
            assert store.bytes(f"models/b/{INDEX}") == (folders[1] / INDEX).read_bytes()

    store.proxy.judge = watch
    store.push(files / "models", "models/")
    assert seen == [f"models/a/{INDEX}", f"models/a/{shard.name}", f"models/a/{INDEX}"]


def test_one_shard_is_not_replaced_under_its_index(store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=2)
    store.push(folder, "llama/")
    shard = folder / "model-00001-of-00002.safetensors"
    before = shard.read_bytes()
    store.push(shard, "llama/")
    changed = bytearray(before)
    changed[-1] ^= 1
    shard.write_bytes(changed)
    err = store.push(shard, "llama/", code=77).stderr
    assert INDEX in err and "push the whole folder" in err
    assert "llama" in store.push(shard, f"llama/{shard.name}", code=77).stderr
    assert store.bytes(f"llama/{shard.name}") == before
    store.push(small_model(files / "other.safetensors"), "llama/")


def test_an_index_of_another_model_is_in_the_way(store: Store, files: pathlib.Path) -> None:
    store.push(sharded_model(files / "llama", shards=2), "llama/")
    other = small_model(files / "other" / "model.safetensors")
    err = store.push(other.parent, "llama/", code=77).stderr
    assert INDEX in err and "llama/model.safetensors" not in store.names()


def test_a_malformed_model_is_refused_before_a_byte_moves(store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=2)
    with (folder / "model-00002-of-00002.safetensors").open("r+b") as file:
        file.truncate(1000)
    err = store.push(folder, "llama/", code=65).stderr
    assert "model-00002-of-00002.safetensors" in err
    assert store.proxy.requests == []


def test_a_store_that_is_busy_now_and_then(rgw_store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    path = large_model(folder / "large.safetensors")
    count = iter(range(1000))
    rgw_store.proxy.judge = lambda _: 503 if next(count) % 8 == 3 else None
    rgw_store.push(folder, "llama/")
    assert rgw_store.bytes("llama/large.safetensors") == path.read_bytes()
    assert len(rgw_store.names()) == 5


def test_parts_stay_for_later_if_the_store_is_down(rgw_store: Store, files: pathlib.Path) -> None:
    path = large_model(files / "m.safetensors")
    rgw_store.proxy.judge = lambda request: 503 if request.part > 3 else None
    err = rgw_store.push(path, "m.safetensors", code=75).stderr
    assert "gave up" in err and "push again" in err
    before = stored_parts(rgw_store)
    assert before > 0
    rgw_store.proxy.judge = lambda _: None
    rgw_store.proxy.requests.clear()
    rgw_store.push(path, "m.safetensors")
    assert len(rgw_store.proxy.parts()) == 6 - before
    assert rgw_store.bytes("m.safetensors") == path.read_bytes()


def test_links_out_of_the_folder_are_followed_only_if_asked(rgw_store: Store, files: pathlib.Path) -> None:
    blob = small_model(files / "blobs" / "0123")
    folder = files / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to("../blobs/0123")
    assert "--follow-links" in rgw_store.push(folder, "m/", code=64).stderr
    assert rgw_store.proxy.requests == []
    rgw_store.push(folder, "m/", "--follow-links")
    assert rgw_store.bytes("m/model.safetensors") == blob.read_bytes()


def test_what_makes_no_sense_is_refused(rgw_store: Store, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=1)
    rgw_store.push(folder / INDEX, "llama/", code=64)
    rgw_store.push(folder / "nothing", "llama/", code=66)
    rgw_store.push(folder, "llama/?versionId=3", code=64)
    shutil.rmtree(folder)
    folder.mkdir()
    rgw_store.push(folder, "llama/", code=66)
    assert rgw_store.proxy.requests == []
