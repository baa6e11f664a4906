"""Fixtures of the tests in containers."""

import pathlib
import sys
import typing

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / "e2e")]

import oci  # noqa: E402
from models import even_model  # noqa: E402
from node import Node, build_image, own_users  # noqa: E402

MIB = 1 << 20


@pytest.fixture(scope="session")
def engine() -> typing.Iterator[oci.Engine]:
    reason = oci.why_not()
    if reason:
        pytest.skip(reason)
    with oci.Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def image(engine: oci.Engine) -> str:
    return build_image(engine)


@pytest.fixture(scope="session")
def models(engine: oci.Engine) -> pathlib.Path:
    """What the nodes have in /models: m.safetensors of 24 MiB, big.safetensors and other.safetensors of 160 MiB."""
    folder = engine.folder / "models"
    folder.mkdir(mode=0o755)
    even_model(folder / "m.safetensors", 24 * MIB, 6)
    even_model(folder / "big.safetensors", 160 * MIB, 4, seed=2)
    even_model(folder / "other.safetensors", 160 * MIB, 4, seed=3)
    return folder


@pytest.fixture(scope="module")
def nodes(
    engine: oci.Engine, image: str, models: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> typing.Iterator[typing.Callable[..., Node]]:
    """Starts daemons in containers, each with a folder of its own, and ends them with the module."""
    started: list[Node] = []

    def start(**options: typing.Any) -> Node:
        # Below the engine's folder, which every user may pass through, and which goes with it.
        folder = engine.folder / tmp_path_factory.mktemp("node").name
        started.append(Node(engine, image, folder, models, **options))
        return started[-1]

    yield start
    for node in started:
        node.end()


@pytest.fixture(scope="module")
def node(nodes: typing.Callable[..., Node]) -> Node:
    """A daemon with a user namespace of its own, as its clients have."""
    return nodes(isolation=own_users())
