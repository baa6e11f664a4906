"""Exchanges a token for credentials at moto's STS, with the binary that the build left behind (show_credentials.cc)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "servers"))

from s3 import Moto  # noqa: E402

BUILD = HERE.parents[3] / ".build" / os.environ.get("WEIGHTD_BUILD", "opt")
TOKEN = "header.payload+/=.signature"
ANYBODY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "*"}}],
}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with Moto(tmp_path_factory.mktemp("moto"), check_signatures=False) as server:
        yield server


def show(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the binary prints in a bare environment with these variables."""
    binary = BUILD / "tests/daemon/source/credentials/show_credentials"
    assert binary.exists(), "build it: bazel build --config=opt //tests/daemon/source/credentials:show_credentials"
    env = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **variables}
    return subprocess.run([binary], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_credentials_of_a_role_are_what_the_store_knows(moto: Moto, tmp_path: Path) -> None:
    role = moto.client("iam").create_role(RoleName="loader", AssumeRolePolicyDocument=json.dumps(ANYBODY))["Role"]
    token = tmp_path / "token"
    token.write_text(TOKEN)
    shown = show(
        tmp_path,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ROLE_ARN=role["Arn"],
        AWS_ROLE_SESSION_NAME="node-7",
        AWS_ENDPOINT_URL_STS=moto.endpoint,
    )
    assert shown.returncode == 0, shown.stderr
    kind, key, secret, session, life = shown.stdout.splitlines()
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in kind
    assert 3000 < int(life) <= 3600
    sts = moto.client("sts", aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=session)
    assert sts.get_caller_identity()["Arn"].endswith(":assumed-role/loader/node-7")


def test_a_server_that_is_no_sts_is_named(moto: Moto, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    shown = show(
        tmp_path,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/loader",
        AWS_ENDPOINT_URL_STS=f"{moto.endpoint}/bucket/key",
    )
    assert shown.returncode == 1
    assert "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)" in shown.stderr
    assert TOKEN not in shown.stdout + shown.stderr


def test_a_bare_environment_gives_none(tmp_path: Path) -> None:
    assert show(tmp_path).stdout == "none\n"
