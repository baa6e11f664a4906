"""Self test of the S3 servers: what sources and their tests rely on, and where README.md says they differ from AWS."""

import datetime
import hashlib
import http.client
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request

import botocore.auth
import botocore.config
import botocore.exceptions
import pytest
from s3 import Moto, Rgw, S3Server, ServerDied

DATA = bytes(range(256)) * 400
ETAG = f'"{hashlib.md5(DATA).hexdigest()}"'
SIGNED_V4 = botocore.config.Config(signature_version="s3v4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("s3")


@pytest.fixture(scope="module")
def rgw(folder: pathlib.Path) -> typing.Iterator[Rgw]:
    with Rgw(folder) as server:
        yield server


@pytest.fixture(scope="module")
def moto(folder: pathlib.Path) -> typing.Iterator[Moto]:
    with Moto(folder) as server:
        yield server


@pytest.fixture(params=["rgw", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own with DATA at "k"."""
    name = f"b-{hashlib.md5(request.node.name.encode()).hexdigest()}"
    server.client().create_bucket(Bucket=name)
    server.client().put_object(Bucket=name, Key="k", Body=DATA)
    return name


def refusal(call: typing.Callable[..., typing.Any], **arguments: typing.Any) -> tuple[int, str]:
    """Status and code of a call that must fail."""
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**arguments)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def status_of(url: str, headers: dict[str, str] | None = None) -> int:
    """What an unsigned GET is answered with."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def headers_of(answer: typing.Any) -> typing.Mapping[str, str]:
    return answer["ResponseMetadata"]["HTTPHeaders"]


def clock_is_off(monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    """From here on requests are signed as if this machine's clock were off."""
    now = botocore.auth.get_current_datetime() + datetime.timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now)


def test_range_of_an_object(server: S3Server, bucket: str) -> None:
    client = server.client()
    answer = client.get_object(Bucket=bucket, Key="k", Range="bytes=5-9", IfMatch=ETAG)
    assert answer["Body"].read() == DATA[5:10]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"] == f"bytes 5-9/{len(DATA)}"
    assert answer["ETag"] == client.head_object(Bucket=bucket, Key="k")["ETag"] == ETAG
    assert answer["LastModified"] == client.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert refusal(client.get_object, Bucket=bucket, Key="k", Range=f"bytes={len(DATA)}-") == (416, "InvalidRange")


def test_if_match_refuses_a_range_of_what_was_overwritten(server: S3Server, bucket: str) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"other")
    get = {"Bucket": bucket, "Key": "k", "IfMatch": ETAG}
    assert refusal(client.get_object, **get, Range="bytes=0-1") == (412, "PreconditionFailed")
    assert refusal(client.get_object, **get) == (412, "PreconditionFailed")
    assert refusal(client.head_object, **get)[0] == 412


def test_keys_are_checked(server: S3Server, bucket: str) -> None:
    get = {"Bucket": bucket, "Key": "k"}
    wrong_secret, wrong_key = (
        server.client(aws_secret_access_key="x"),
        server.client(aws_access_key_id="AKIA" + "X" * 16),
    )
    assert refusal(wrong_secret.get_object, **get) == (403, "SignatureDoesNotMatch")
    assert refusal(wrong_secret.head_object, **get)[0] == 403
    assert refusal(wrong_key.get_object, **get) == (403, "InvalidAccessKeyId")
    assert status_of(f"{server.endpoint}/{bucket}/k") == 403


def test_missing_things(server: S3Server, bucket: str) -> None:
    client = server.client()
    assert refusal(client.get_object, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    assert refusal(client.get_object, Bucket="no-such-bucket", Key="none") == (404, "NoSuchBucket")
    assert refusal(client.list_objects_v2, Bucket="no-such-bucket") == (404, "NoSuchBucket")


def test_delete(server: S3Server, bucket: str) -> None:
    client = server.client()
    client.delete_object(Bucket=bucket, Key="k")
    assert refusal(client.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")


def test_versions(server: S3Server, bucket: str) -> None:
    client = server.client()
    assert "VersionId" not in client.head_object(Bucket=bucket, Key="k")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = client.put_object(Bucket=bucket, Key="k", Body=b"old")["VersionId"]
    new = client.put_object(Bucket=bucket, Key="k", Body=b"newer")["VersionId"]
    assert client.head_object(Bucket=bucket, Key="k")["VersionId"] == new
    answer = client.get_object(Bucket=bucket, Key="k", VersionId=old, Range="bytes=0-1")
    assert (answer["VersionId"], answer["Body"].read()) == (old, b"ol")
    assert client.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == DATA
    client.delete_object(Bucket=bucket, Key="k")
    assert refusal(client.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert client.get_object(Bucket=bucket, Key="k", VersionId=old)["Body"].read() == b"old"
    client.delete_object(Bucket=bucket, Key="k", VersionId=old)
    gone = "NoSuchKey" if isinstance(server, Rgw) else "NoSuchVersion"
    assert refusal(client.get_object, Bucket=bucket, Key="k", VersionId=old) == (404, gone)


def test_multipart(server: S3Server, bucket: str) -> None:
    client = server.client()
    parts = [bytes(5 << 20), b"end"]
    name = {"Bucket": bucket, "Key": "m"}
    upload = {**name, "UploadId": client.create_multipart_upload(**name)["UploadId"]}
    tags = [
        {"PartNumber": n, "ETag": client.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": tags})
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert client.head_object(**name)["ETag"] == f'"{digest}-2"'
    across = client.get_object(**name, Range=f"bytes={(5 << 20) - 1}-{5 << 20}", IfMatch=f'"{digest}-2"')
    assert across["Body"].read() == b"\0e"


def test_listing(server: S3Server, bucket: str) -> None:
    client = server.client()
    keys = ["dir/a b+c%41.bin", "dir/sub/k", "dir/x&y<z>", "dir/ü"]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="dir/", PaginationConfig={"PageSize": 1}
    )
    assert [found["Key"] for page in pages for found in page["Contents"]] == keys
    raw = client.list_objects_v2(Bucket=bucket, Prefix="dir/a b", EncodingType="url")
    slash, prefix = ("%2F", "dir/a b") if isinstance(server, Rgw) else ("/", "dir/a%20b")
    assert raw["Contents"][0]["Key"] == f"dir{slash}a%20b%2Bc%2541.bin"
    assert raw["Prefix"] == prefix
    folders = client.list_objects_v2(Bucket=bucket, Prefix="dir/", Delimiter="/", EncodingType="url")
    assert folders["CommonPrefixes"] == [{"Prefix": "dir/sub/"}]


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_checksums(server: S3Server, bucket: str, algorithm: str) -> None:
    client = server.client()
    client.put_object(Bucket=bucket, Key="c", Body=DATA, ChecksumAlgorithm=algorithm)
    name = f"x-amz-checksum-{algorithm.lower()}"
    whole = client.get_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    part = client.get_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED", Range="bytes=0-9")
    head = client.head_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    seen = [name in headers_of(answer) for answer in (whole, head, part)]
    assert seen == [isinstance(server, Moto), isinstance(server, Moto), False]


def test_region_is_not_checked(server: S3Server, bucket: str) -> None:
    elsewhere = server.client(region_name="eu-west-1")
    assert elsewhere.get_object(Bucket=bucket, Key="k", Range="bytes=0-0")["Body"].read() == DATA[:1]
    named = headers_of(elsewhere.head_bucket(Bucket=bucket)).get("x-amz-bucket-region")
    assert named == (None if isinstance(server, Rgw) else "us-east-1")


def test_host_style(server: S3Server, bucket: str) -> None:
    server.client().put_object(Bucket=bucket, Key="open", Body=b"x", ACL="public-read")
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"))
    connection.request("GET", "/open", headers={"Host": f"{bucket}.localhost"})
    answer = connection.getresponse()
    answer.read()
    # moto that checks signatures fails on requests without one, but finds the bucket.
    assert (answer.status, answer.will_close) == ((200, False) if isinstance(server, Rgw) else (500, True))
    connection.close()


@pytest.mark.parametrize("minutes", [-20, 20])
def test_clock_skew(server: S3Server, bucket: str, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server.client()
    clock_is_off(monkeypatch, minutes)
    if isinstance(server, Moto):
        client.get_object(Bucket=bucket, Key="k")
    else:
        assert refusal(client.get_object, Bucket=bucket, Key="k") == (403, "RequestTimeTooSkewed")


def presigned(server: S3Server, bucket: str, **settings: typing.Any) -> str:
    client = server.client(config=SIGNED_V4, **settings)
    return client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60)


def test_presigned_on_rgw(rgw: Rgw, monkeypatch: pytest.MonkeyPatch) -> None:
    rgw.client().create_bucket(Bucket="presigned")
    rgw.client().put_object(Bucket="presigned", Key="k", Body=DATA)
    url = presigned(rgw, "presigned")
    assert status_of(url, {"Range": "bytes=0-3"}) == 206
    assert status_of(url, {"Range": "bytes=0-3", "If-Match": '"0"'}) == 412
    assert status_of(url + "0") == 403
    assert status_of(presigned(rgw, "presigned", aws_secret_access_key="x")) == 403
    clock_is_off(monkeypatch, -10)
    assert status_of(presigned(rgw, "presigned")) == 403  # expired


def test_presigned_on_moto(moto: Moto, folder: pathlib.Path) -> None:
    moto.client().create_bucket(Bucket="presigned")
    moto.client().put_object(Bucket="presigned", Key="k", Body=DATA)
    assert status_of(presigned(moto, "presigned")) == 500
    with Moto(folder, check_signatures=False) as lax:
        lax.client().create_bucket(Bucket="presigned")
        lax.client().put_object(Bucket="presigned", Key="k", Body=DATA)
        assert status_of(presigned(lax, "presigned"), {"Range": "bytes=0-3"}) == 206
        assert status_of(presigned(lax, "presigned") + "0") == 200


def test_session_tokens(rgw: Rgw, moto: Moto) -> None:
    for server in (rgw, moto):
        server.client().create_bucket(Bucket="tokens")
    bogus = {"aws_session_token": "bogus"}
    assert "Name" in rgw.client(**bogus).list_objects_v2(Bucket="tokens")
    assert refusal(moto.client(**bogus).list_objects_v2, Bucket="tokens") == (400, "InvalidToken")


@pytest.mark.parametrize("kind", [Rgw, Moto])
def test_end_leaves_nothing(kind: type[S3Server], tmp_path: pathlib.Path) -> None:
    with kind(tmp_path) as one, kind(tmp_path) as two:
        assert one.endpoint != two.endpoint
        watched = [os.pidfd_open(pid) for server in (one, two) for pid in server.pids().values()]
    wait_for_ends(watched)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Rgw, Moto])
def test_nothing_outlives_a_killed_starter(kind: type[S3Server], tmp_path: pathlib.Path) -> None:
    program = f"import pathlib, s3\nprint(*s3.{kind.__name__}(pathlib.Path('.')).pids().values(), flush=True)\ninput()"
    where = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=where, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        watched = [os.pidfd_open(int(pid)) for pid in starter.stdout.readline().split()]
        assert watched
        starter.kill()
    wait_for_ends(watched)


@pytest.mark.parametrize("kind", [Rgw, Moto])
def test_a_dead_daemon_is_told(kind: type[S3Server], tmp_path: pathlib.Path) -> None:
    server = kind(tmp_path)
    name, pid = list(server.pids().items())[-1]
    watched = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for_ends([watched])
    with pytest.raises(ServerDied, match=f"ended: {name} with"):
        server.end()
    assert list(tmp_path.iterdir()) == []


def wait_for_ends(watched: list[int]) -> None:
    """Waits until all these processes (pidfds) have ended, and closes the descriptors."""
    end = time.monotonic() + 20
    for pidfd in watched:
        ready, _, _ = select.select([pidfd], [], [], max(0.0, end - time.monotonic()))
        os.close(pidfd)
        assert ready, "a daemon lives on"
