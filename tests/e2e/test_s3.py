"""Models in object stores: Ceph's RADOS Gateway, moto, and, where it can serve them, nginx."""

import json
import os
import pathlib
import typing

import botocore.config
import pytest
import weightd
from models import expected, sharded_model, small_model
from processes import Daemon
from shelves import Bucket, Rgw, S3Server, Shelf, same

Daemons = typing.Callable[..., Daemon]


@pytest.mark.parametrize("key", ["m.safetensors", "a b/ü+=&;@,$'()*!~/m.safetensors"])
def test_an_object_is_a_model(shelf: Shelf, files: pathlib.Path, key: str) -> None:
    path = small_model(files / "m.safetensors")
    with shelf.attach(shelf.put(path, key)) as model:
        assert same(model, path)


def test_a_prefix_with_an_index_is_a_model(shelf: Shelf, files: pathlib.Path) -> None:
    folder = sharded_model(files / "llama", shards=3)
    for path in folder.iterdir():
        shelf.put(path, f"models/llama/{path.name}")
    with shelf.attach(shelf.uri("models/llama/")) as model:
        truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
        assert {name: bytes(model.raw(name)) for name in model.tensors} == truth


def test_a_prefix_with_one_weight_file_is_a_model(bucket_shelf: Bucket, files: pathlib.Path) -> None:
    path = small_model(files / "odd.safetensors")
    bucket_shelf.put(path, "one/odd name.safetensors")
    bucket_shelf.client.put_object(Bucket=bucket_shelf.name, Key="one/README.md", Body=b"words")
    bucket_shelf.client.put_object(Bucket=bucket_shelf.name, Key="one/deeper/other.safetensors", Body=b"not this one")
    with bucket_shelf.attach(bucket_shelf.uri("one")) as model:
        assert same(model, path)


def test_a_prefix_with_weight_files_and_no_index_is_a_model(bucket_shelf: Bucket, files: pathlib.Path) -> None:
    folder = sharded_model(files / "parts", shards=2)
    for path in folder.glob("*.safetensors"):
        bucket_shelf.put(path, f"models/parts/{path.name}")
    with bucket_shelf.attach(bucket_shelf.uri("models/parts/")) as model:
        truth = {name: data for path in folder.glob("*.safetensors") for name, data in expected(path).items()}
        assert {name: bytes(model.raw(name)) for name in model.tensors} == truth


def test_a_version_can_be_named(bucket_shelf: Bucket, files: pathlib.Path) -> None:
    bucket_shelf.client.put_bucket_versioning(Bucket=bucket_shelf.name, VersioningConfiguration={"Status": "Enabled"})
    paths = [small_model(files / f"{seed}.safetensors", seed=seed) for seed in (1, 2)]
    for path in paths:
        uri = bucket_shelf.put(path, "m.safetensors")
    versions = bucket_shelf.client.list_object_versions(Bucket=bucket_shelf.name, Prefix="m.safetensors")["Versions"]
    old = next(version["VersionId"] for version in versions if not version["IsLatest"])
    with bucket_shelf.attach(f"{uri}?versionId={old}") as first, bucket_shelf.attach(uri) as second:
        assert same(first, paths[0]) and same(second, paths[1])


def test_a_replaced_object_is_a_new_revision(shelf: Shelf, files: pathlib.Path) -> None:
    first, second = (small_model(files / f"{seed}.safetensors", seed=seed) for seed in (1, 2))
    uri = shelf.put(first, "m.safetensors")
    shelf.daemon.ctl("preload", uri)
    shelf.put(second, "m.safetensors")
    shelf.daemon.ctl("preload", uri)
    shelf.daemon.ctl("evict", uri)
    with shelf.attach(uri) as model:
        assert same(model, second)


def test_what_is_not_there(shelf: Shelf, files: pathlib.Path) -> None:
    uri = shelf.put(small_model(files / "m.safetensors"), "m.safetensors")
    shelf.delete("m.safetensors")
    assert shelf.refusal(uri).reason == "MODEL_NOT_FOUND"
    assert shelf.refusal(shelf.uri("nothing/")).reason == "MODEL_NOT_FOUND"


def test_a_missing_bucket_is_told_as_one(bucket_shelf: Bucket) -> None:
    bucket_shelf.client.delete_bucket(Bucket=bucket_shelf.name)
    for key in ("folder/", "folder", "m.safetensors", ""):
        refusal = bucket_shelf.refusal(bucket_shelf.uri(key))
        assert refusal.reason == "MODEL_NOT_FOUND"
        assert "no such bucket" in refusal.message


def test_no_weight_file_of_a_folder_is_left_out(bucket_shelf: Bucket, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    uri = bucket_shelf.put(path, "odd/one.safetensors").removesuffix("one.safetensors")
    bucket_shelf.put(path, "odd/notes\t.txt")
    with bucket_shelf.attach(uri) as model:
        assert same(model, path)
    bucket_shelf.put(path, "odd/two\t.safetensors")
    refusal = bucket_shelf.refusal(uri.replace("odd/", "odd"))
    assert refusal.reason == "MALFORMED_MODEL"
    assert "two\\x09.safetensors" in refusal.message


def test_what_no_store_can_have(bucket_shelf: Bucket) -> None:
    assert bucket_shelf.refusal(bucket_shelf.uri("m.safetensors?acl")).reason == "INVALID_URI"
    assert bucket_shelf.refusal("s3://ab/m.safetensors").reason == "INVALID_URI"


def test_a_wrong_secret_is_said_without_telling_it(
    server: S3Server, shelf_with: typing.Callable[..., Bucket], files: pathlib.Path
) -> None:
    shelf = shelf_with(secret="not-the-secret-key")
    error = shelf.refusal(shelf.put(small_model(files / "m.safetensors"), "m.safetensors"))
    assert error.reason == "SOURCE_DENIED"
    assert "the configuration" in str(error)
    told = str(error) + error.hint + shelf.daemon.log() + shelf.daemon.ctl("ls").stdout
    assert "not-the-secret-key" not in told and server.access_key not in told


def test_clients_are_not_told_where_secrets_lie(
    rgw: Rgw, bucket: str, daemons: Daemons, tmp_path: pathlib.Path
) -> None:
    daemon = daemons(
        f"""
listeners:
  - {{name: own, directory: {tmp_path}/own}}
  - {{name: shared, directory: {tmp_path}/shared, mode: 0755, access: {{load: ["**"]}}}}
sources:
  s3:
    stores:
      - name: shelf
        buckets: ["{bucket}"]
        endpoint: {rgw.endpoint}
        credentials: {{access_key_id: KEY, secret_key_file: {tmp_path}/absent-secret}}
"""
    )
    uri = f"s3://{bucket}/m.safetensors"
    with pytest.raises(weightd.Error, match="credentials") as caught:
        weightd.attach(uri, socket_dir=str(tmp_path / "shared"), timeout=60)
    assert "absent-secret" not in str(caught.value)
    assert "absent-secret" in daemon.ctl("preload", uri, check=False).stderr


def test_a_changed_secret_is_read_again(
    server: S3Server, shelf_with: typing.Callable[..., Bucket], tmp_path: pathlib.Path, files: pathlib.Path
) -> None:
    shelf = shelf_with(secret="not-the-secret-key")
    path = small_model(files / "m.safetensors")
    uri = shelf.put(path, "m.safetensors")
    assert shelf.refusal(uri).reason == "SOURCE_DENIED"
    (tmp_path / "next").write_text(server.secret_key)
    (tmp_path / "next").replace(tmp_path / "secret")
    with shelf.attach(uri) as model:
        assert same(model, path)


def test_buckets_without_a_store_get_no_credentials_from_clients(
    rgw: Rgw,
    bucket: str,
    daemons: Daemons,
    files: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = rgw.client()
    client.create_bucket(Bucket=bucket)
    path = small_model(files / "m.safetensors")
    client.upload_file(str(path), bucket, "private.safetensors")
    client.upload_file(str(path), bucket, "public.safetensors", ExtraArgs={"ACL": "public-read"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", rgw.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rgw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rgw.secret_key)
    daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: shared, directory: {tmp_path}/shared, mode: 0755,"
        " access: {attach: ['**'], load: ['**']}}\n"
    )

    def attach(listener: str, key: str) -> weightd.Model:
        return weightd.attach(f"s3://{bucket}/{key}", socket_dir=str(tmp_path / listener), framework="np", timeout=60)

    with attach("shared", "public.safetensors") as model:
        assert same(model, path)
    with pytest.raises(weightd.Error, match="unsigned") as caught:
        attach("shared", "private.safetensors")
    assert caught.value.reason == "SOURCE_DENIED"
    with attach("own", "private.safetensors") as model:
        assert same(model, path)


def test_a_presigned_url_is_an_https_model_whose_signature_nobody_sees(
    rgw: Rgw, bucket: str, daemon: Daemon, files: pathlib.Path
) -> None:
    client = rgw.client(config=botocore.config.Config(signature_version="s3v4"))
    client.create_bucket(Bucket=bucket)
    path = small_model(files / "m.safetensors")
    client.upload_file(str(path), bucket, "m.safetensors")
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "m.safetensors"}, 300)
    signature = url.split("X-Amz-Signature=")[1].split("&")[0]
    with weightd.attach(url, socket_dir=str(daemon.socket_dir), framework="np", timeout=60) as model:
        assert same(model, path)
        seen = daemon.log() + daemon.ctl("ls").stdout + json.dumps(daemon.ctl_json("leases"))
    assert signature not in seen


def test_a_store_is_chosen_by_its_closest_prefix(
    rgw: Rgw, bucket: str, daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    client = rgw.client()
    client.create_bucket(Bucket=bucket)
    path = small_model(files / "m.safetensors")
    client.upload_file(str(path), bucket, "team/m.safetensors")
    (tmp_path / "secret").write_text(rgw.secret_key)
    os.chmod(tmp_path / "secret", 0o600)
    daemon = daemons(
        f"""
sources:
  s3:
    stores:
      - {{name: all, buckets: ["*"], endpoint: "http://127.0.0.1:9", credentials: {{anonymous: true}}}}
      - name: team
        buckets: ["{bucket}/team/"]
        endpoint: {rgw.endpoint}
        credentials: {{access_key_id: {rgw.access_key}, secret_key_file: {tmp_path}/secret}}
"""
    )
    uri = f"s3://{bucket}/team/m.safetensors"
    with weightd.attach(uri, socket_dir=str(daemon.socket_dir), framework="np", timeout=60) as model:
        assert same(model, path)
