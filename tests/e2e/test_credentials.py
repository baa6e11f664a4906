"""Each place that credentials may come from, at stores that check them."""

import datetime
import http.server
import json
import pathlib
import shlex
import threading
import typing

import pytest
from keys import Key, in_document, in_profile
from models import small_model
from processes import Daemon
from shelves import Bucket, Moto, S3Server, same

Daemons = typing.Callable[..., Daemon]
Set = typing.Callable[[str, str], None]
ShelfWith = typing.Callable[..., Bucket]

TOKEN = "token-of-the-node"
ROLES = "/latest/meta-data/iam/security-credentials/"


class Service(http.server.ThreadingHTTPServer):
    """Gives a key to whoever asks as the metadata service of an instance (version 2), or the agent of a container,
    demands it."""

    daemon_threads = True

    def __init__(self, key: Key) -> None:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        self.document = json.dumps(
            {
                "Code": "Success",
                "AccessKeyId": key[0],
                "SecretAccessKey": key[1],
                "Token": "",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
        super().__init__(("127.0.0.1", 0), Guard)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Guard(http.server.BaseHTTPRequestHandler):
    server: Service

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        lives = "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self.answer(200 if self.path == "/latest/api/token" and lives else 400, TOKEN)

    def do_GET(self) -> None:
        name = "Authorization" if self.path == "/container" else "X-aws-ec2-metadata-token"
        pages = {"/container": self.server.document, ROLES: "role", f"{ROLES}role": self.server.document}
        allowed = self.headers.get(name) == TOKEN
        self.answer(200 if allowed and self.path in pages else 401, pages.get(self.path, ""))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def give_by_environment(key: Key, home: pathlib.Path, set_variable: Set) -> None:
    set_variable("AWS_ACCESS_KEY_ID", key[0])
    set_variable("AWS_SECRET_ACCESS_KEY", key[1])


def give_by_profile(key: Key, home: pathlib.Path, set_variable: Set) -> None:
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(f"[default]\n{in_profile(('WRONG', 'WRONG'))}[team]\n{in_profile(key)}")
    set_variable("AWS_PROFILE", "team")


def give_by_s3cfg(key: Key, home: pathlib.Path, set_variable: Set) -> None:
    (home / ".s3cfg").write_text(f"[default]\naccess_key = {key[0]}\nsecret_key = {key[1]}\n")


def give_by_container(key: Key, home: pathlib.Path, set_variable: Set) -> None:
    (home / "token").write_text(TOKEN)
    set_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{Service(key).url}/container")
    set_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(home / "token"))


def give_by_metadata(key: Key, home: pathlib.Path, set_variable: Set) -> None:
    set_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", Service(key).url)
    set_variable("AWS_EC2_METADATA_DISABLED", "false")


PLACES = [give_by_environment, give_by_profile, give_by_s3cfg, give_by_container, give_by_metadata]


def bare_environment(monkeypatch: pytest.MonkeyPatch, home: pathlib.Path) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def assert_signed(shelf: Bucket, files: pathlib.Path, key: Key) -> None:
    """That the daemon gets a model out of the shelf, with this key."""
    path = small_model(files / "m.safetensors")
    with shelf.attach(shelf.put(path, "m.safetensors")) as model:
        assert same(model, path)
    assert f"Credential={key[0]}/" in "".join(shelf.gate.requests())


@pytest.mark.parametrize("give", PLACES, ids=lambda give: give.__name__.removeprefix("give_by_"))
def test_a_store_takes_what_a_place_gives(
    give: typing.Callable[[Key, pathlib.Path, Set], None],
    server: S3Server,
    shelf_with: ShelfWith,
    tmp_path: pathlib.Path,
    files: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bare_environment(monkeypatch, home)
    key = server.add_key()
    give(key, home, monkeypatch.setenv)
    assert_signed(shelf_with(credentials="{}"), files, key)


def test_a_store_takes_what_a_program_gives(
    server: S3Server,
    shelf_with: ShelfWith,
    tmp_path: pathlib.Path,
    files: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = server.add_key()
    (tmp_path / "profile").write_text(f"[default]\ncredential_process = echo {shlex.quote(in_document(key))}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profile"))
    assert_signed(shelf_with(credentials="{allow_process: true}"), files, key)


def test_a_web_identity_is_exchanged_and_signed_with(
    bucket: str, daemons: Daemons, tmp_path: pathlib.Path, files: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_environment(monkeypatch, tmp_path)
    anybody = {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "*"}}
    # moto exchanges web identities only where it takes any key.
    with Moto(tmp_path, check_signatures=False) as server:
        document = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
        role = server.client("iam").create_role(RoleName="loader", AssumeRolePolicyDocument=document)["Role"]
        (tmp_path / "token").write_text("header.payload.signature")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", role["Arn"])
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.endpoint)
        shelf = Bucket(server, bucket, daemons, tmp_path, credentials="{}")
        path = small_model(files / "m.safetensors")
        with shelf.attach(shelf.put(path, "m.safetensors")) as model:
            assert same(model, path)
        requests = "".join(shelf.gate.requests()).lower()
        assert "credential=asia" in requests and "x-amz-security-token: " in requests
        shelf.end()
