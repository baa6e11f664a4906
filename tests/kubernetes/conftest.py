"""Fixtures of the tests of deploy/kubernetes and deploy/helm."""

import pathlib
import subprocess
import sys
import typing

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from chart import ROOT, Renderer  # noqa: E402

CheckConfig = typing.Callable[[list[dict[str, typing.Any]]], dict[str, typing.Any]]


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer(tmp_path_factory.mktemp("render"))


@pytest.fixture
def check_config(tmp_path: pathlib.Path) -> CheckConfig:
    """Has the daemon read the config among the objects; returns it."""

    def check(objects: list[dict[str, typing.Any]]) -> dict[str, typing.Any]:
        (text,) = [each["data"]["weightd.yaml"] for each in objects if each["kind"] == "ConfigMap"]
        file = tmp_path / "weightd.yaml"
        file.write_text(text)
        checked = subprocess.run(
            [ROOT / ".build/opt/daemon/weightd", "--config", file, "--check-config"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        return typing.cast(dict[str, typing.Any], yaml.safe_load(text))

    return check
