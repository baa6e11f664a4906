"""What the packages' tests share: the tarball of the optimised build, and an engine for containers."""

import pathlib
import subprocess
import sys
import typing

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(pathlib.Path(__file__).parent), str(TESTS / "containers"), str(TESTS / "e2e")]

import oci  # noqa: E402
from packing import make_tarball  # noqa: E402


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """As deploy/tarball.sh makes it."""
    return make_tarball(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def unpacked(tarball: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder that is in it."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xzf", tarball, "-C", folder], check=True)
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="session")
def engine() -> typing.Iterator[oci.Engine]:
    """Skips where containers can't run."""
    if reason := oci.why_not():
        pytest.skip(reason)
    with oci.Engine() as engine:
        yield engine


@pytest.fixture
def socket_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder to mount as the daemon's, below folders that every user can enter."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder
