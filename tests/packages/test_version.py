"""There is one version, and programs say what they were built from."""

import ast
import json
import os
import pathlib
import re
import subprocess
import tomllib

import pytest
from packing import VERSION
from processes import ROOT, Daemon, binary

STATUS = ROOT / "third_party/workspace_status.sh"
COMMIT = "[0-9a-f]{40}(-dirty)?"


def test_python_has_the_daemons() -> None:
    project = tomllib.loads((ROOT / "client/python/pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "weightd.__version__"}
    module = ast.parse((ROOT / "client/python/src/weightd/__init__.py").read_text())
    (value,) = [
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert value == VERSION


def test_the_changelog_and_the_image_have_it() -> None:
    newest = re.findall(r"^## \[(.+?)\]", (ROOT / "deploy/CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == VERSION
    assert re.findall(r"^ARG VERSION=(.+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE) == [VERSION]


@pytest.mark.parametrize("program", ["daemon/weightd", "client/cli/weightctl"])
def test_programs_name_their_commit(program: str) -> None:
    said = subprocess.run([binary(program), "--version"], capture_output=True, text=True, check=True).stdout
    commit = re.fullmatch(rf"{pathlib.Path(program).name} {re.escape(VERSION)} \(({COMMIT})\)\n", said)
    assert commit, said
    subprocess.run(["git", "-C", ROOT, "cat-file", "-e", commit[1].removesuffix("-dirty")], check=True)


def test_the_daemon_names_its_commit(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path).start()
    try:
        revision = json.loads(daemon.ctl("status", "--output", "json").stdout)["source_revision"]
        assert re.fullmatch(COMMIT, revision)
    finally:
        daemon.end()


def test_the_commit_is_gits(tmp_path: pathlib.Path) -> None:
    def revision(**environment: str) -> str:
        done = subprocess.run(
            [STATUS], cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        return done.stdout.removesuffix("\n")

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert revision() == "STABLE_SOURCE_REVISION "
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert revision() == f"STABLE_SOURCE_REVISION {head}"
    (tmp_path / "file").write_text("2")
    assert revision() == f"STABLE_SOURCE_REVISION {head}-dirty"
    assert revision(WEIGHTD_SOURCE_REVISION="abc") == "STABLE_SOURCE_REVISION abc"
    assert revision(WEIGHTD_SOURCE_REVISION="") == "STABLE_SOURCE_REVISION "
