"""Daemons of other versions: what they left with the keeper is served, or refused by name.

kept_by_version_1.json is what a daemon of card version 1 and index version 1 left of file:///srv/models/two/, which an
operator had pinned. It stays as it is; who changes a version adds a file of the new one (kept_parts.py writes it).
"""

import pathlib
import typing

import kept_parts
import pytest
import weightd
from keepers import Keeper
from loglines import lines_of
from models import expected, write_model
from processes import Daemon, wait_until

MODEL = "file:///srv/models/two/"
PLACE = "5" * 32
FILES = sorted(pathlib.Path(__file__).parent.glob("kept_by_version_*.json"))


@pytest.fixture
def start(daemons: typing.Callable[..., Daemon], keeper: Keeper) -> typing.Callable[[], Daemon]:
    return lambda: daemons(f"cache: {{revalidate: never}}\n{keeper.config}")


def assert_served(daemon: Daemon, folder: pathlib.Path) -> None:
    """To a client, every byte, though there is no such file."""
    truth = {}
    for seed in range(2):
        tensors = {f"layer.{seed}.a": ("F32", [16, 8]), f"layer.{seed}.b": ("BF16", [100])}
        truth |= expected(write_model(folder / f"{seed}.safetensors", tensors, seed))
    (model,) = daemon.ctl_json("ls")["models"]
    assert (model["model"], model["readopted"], model["pinned"]) == (MODEL, True, True)
    with weightd.attach(MODEL, socket_dir=daemon.socket_dir, timeout=60, framework="np") as attached:
        assert {name: bytes(attached.raw(name)) for name in attached.tensors} == truth
        assert dict(attached.files) == {"config.json": b'{"a": 1}'}


def assert_refused(daemon: Daemon, keeper: Keeper, why: str) -> None:
    (line,) = lines_of(daemon, "model.not_readopted")
    assert PLACE in line["error"]
    assert why in line["error"]
    assert daemon.ctl_json("ls").get("models", []) == []
    with pytest.raises(weightd.Error, match="no such file|No such file"):
        weightd.attach(MODEL, socket_dir=daemon.socket_dir, timeout=60, framework="np")
    wait_until(lambda: not keeper.names(), "the keeper has let go of it")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_an_earlier_version_left_is_served(
    start: typing.Callable[[], Daemon], keeper: Keeper, files: pathlib.Path, file: pathlib.Path
) -> None:
    kept_parts.put(keeper, kept_parts.read(file), PLACE)
    daemon = start()
    assert lines_of(daemon, "model.not_readopted") == []
    assert_served(daemon, files)
    daemon.ctl("evict", "--force", MODEL)
    wait_until(lambda: not keeper.names(), "the keeper has let go of it")


def test_what_a_later_version_adds_is_passed_over(
    start: typing.Callable[[], Daemon], keeper: Keeper, files: pathlib.Path
) -> None:
    parts = kept_parts.read(FILES[-1])
    parts["card"] = kept_parts.with_body(
        parts["card"], kept_parts.with_field(kept_parts.body(parts["card"]), 1000, b"what nobody knows yet")
    )
    kept_parts.put(keeper, parts, PLACE)
    assert_served(start(), files)


def test_a_card_of_a_later_version_is_refused(start: typing.Callable[[], Daemon], keeper: Keeper) -> None:
    kept_parts.put(keeper, kept_parts.read(FILES[-1]), PLACE, version=2)
    assert_refused(start(), keeper, "a card of version 2; this is version 1")


def test_an_index_of_a_later_version_is_refused(start: typing.Callable[[], Daemon], keeper: Keeper) -> None:
    parts = kept_parts.read(FILES[-1])
    counted = kept_parts.bytes_of(parts["card"], "index")
    index = parts["index"][:counted]
    # The first field, a varint.
    assert index.startswith(b"\x08\x01")
    parts["index"] = b"\x08\x02" + parts["index"][2:]
    parts["card"] = kept_parts.with_index_digest(parts["card"], parts["index"][:counted])
    kept_parts.put(keeper, parts, PLACE)
    assert_refused(start(), keeper, "its version is 2, not 1")
