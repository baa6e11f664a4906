"""A keeper that holds what no daemon left: nothing of it is served, each is named, none stays."""

import hashlib
import os
import pathlib
import socket
import tempfile
import time
import typing

import kept_parts
import pytest
import weightd
from keepers import Keeper
from loglines import lines_of
from models import small_model
from processes import INSTRUMENTED, PATIENCE, Daemon, wait_until
from shelves import same

Daemons = typing.Callable[..., Daemon]
Place = dict[str, int]
READY = PATIENCE if INSTRUMENTED else 2.0
PARTS = ("card", "index", "weights")
MANY = 5000
F_SEAL_FUTURE_WRITE = 0x10  # of Linux 5.1


@pytest.fixture
def kept(daemons: Daemons, keeper: Keeper) -> Daemon:
    return daemons(f"cache: {{revalidate: never}}\n{keeper.config}")


@pytest.fixture
def paths(files: pathlib.Path) -> list[pathlib.Path]:
    """Two models of one size and layout."""
    return [small_model(files / f"{seed}.safetensors", seed) for seed in (1, 2)]


def places(kept: Daemon, keeper: Keeper, paths: list[pathlib.Path]) -> list[str]:
    """Has the daemon load models, and kills it; where each lies."""
    names: list[str] = []
    for path in paths:
        kept.ctl("preload", str(path))
        count = len(names) + 1
        wait_until(lambda count=count: len(keeper.names()) == 3 * count, "the model is kept")
        (new,) = {name.split(".")[1] for name in keeper.names()} - set(names)
        names.append(new)
    kept.kill()
    return names


def take_out(keeper: Keeper, place: str) -> Place:
    """A model's descriptors, which the keeper has no more, by their part."""
    taken = {}
    for name, fd in keeper.take():
        if name.startswith(f"host.{place}."):
            taken[name.rpartition(".")[2]] = fd
            keeper.remove(name)
        else:
            os.close(fd)
    return taken


def put(keeper: Keeper, place: str, parts: Place) -> None:
    for part, fd in parts.items():
        kept_parts.store(keeper, f"host.{place}.{part}", fd)


def start(kept: Daemon) -> None:
    """It serves as soon as ever."""
    begin = time.monotonic()
    kept.start()
    assert time.monotonic() - begin < READY


def resident(kept: Daemon) -> set[str]:
    return {pathlib.Path(model["model"]).name for model in kept.ctl_json("ls").get("models", [])}


def assert_right(kept: Daemon, keeper: Keeper, paths: list[pathlib.Path]) -> None:
    """Each model's bytes are its own, whoever loaded it, and nothing else is kept."""
    for path in paths:
        with weightd.attach(str(path), socket_dir=kept.socket_dir, timeout=60, framework="np") as model:
            assert same(model, path)
    wait_until(lambda: len(keeper.names()) == 3 * len(paths), "only they are kept")
    # A client's end is not the daemon's news at once.
    wait_until(lambda: not kept.ctl_json("leases")["leases"], "all leases end")
    for path in paths:
        kept.ctl("evict", str(path))
    wait_until(lambda: not keeper.names(), "nothing is kept")


@pytest.mark.parametrize("swapped", [["weights"], ["index"], ["card"], ["index", "weights"]], ids="+".join)
def test_models_whose_parts_are_swapped(
    kept: Daemon, keeper: Keeper, paths: list[pathlib.Path], swapped: list[str]
) -> None:
    """Each part is a real one, sealed, and as long as the other."""
    first, second = places(kept, keeper, paths)
    one, other = take_out(keeper, first), take_out(keeper, second)
    for part in swapped:
        one[part], other[part] = other[part], one[part]
    put(keeper, first, one)
    put(keeper, second, other)
    start(kept)
    assert resident(kept) == set()
    lines = lines_of(kept, "model.not_readopted")
    assert len(lines) == 2
    assert all("not the memory that its card names" in line["error"] for line in lines)
    assert all(sum(place in line["error"] for line in lines) == 1 for place in (first, second))
    assert_right(kept, keeper, paths)


def test_models_that_changed_places_are_still_themselves(
    kept: Daemon, keeper: Keeper, paths: list[pathlib.Path]
) -> None:
    first, second = places(kept, keeper, paths)
    one, other = take_out(keeper, first), take_out(keeper, second)
    put(keeper, first, other)
    put(keeper, second, one)
    start(kept)
    assert resident(kept) == {path.name for path in paths}
    assert_right(kept, keeper, paths)


def unsealed(content: bytes) -> int:
    return kept_parts.memfd(content, seals=0)


def sealed_but_for_writes(content: bytes) -> int:
    return kept_parts.memfd(content, seals=kept_parts.LENGTH_SEALS)


def sealed_for_the_future_only(content: bytes) -> int:
    return kept_parts.memfd(content, seals=kept_parts.LENGTH_SEALS | F_SEAL_FUTURE_WRITE)


def truncated(content: bytes) -> int:
    return kept_parts.memfd(content[: -kept_parts.PAGE])


def too_long(content: bytes) -> int:
    return kept_parts.memfd(content + bytes(kept_parts.PAGE))


def empty(_: bytes) -> int:
    return kept_parts.memfd(b"")


def opened_for_writing(content: bytes) -> int:
    return kept_parts.memfd(content, access=os.O_RDWR)


def plain_file(content: bytes) -> int:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.open(file.name, os.O_RDONLY)


def folder(_: bytes) -> int:
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY)


def path_only(_: bytes) -> int:
    return os.open("/proc/self/exe", os.O_PATH)


def device(_: bytes) -> int:
    return os.open("/dev/zero", os.O_RDONLY)


def pipe(_: bytes) -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def end_of_a_socket(_: bytes) -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def listening(_: bytes) -> int:
    server = socket.create_server(("127.0.0.1", 0))
    return server.detach()


def events(_: bytes) -> int:
    return os.eventfd(1)


FOREIGN = [
    unsealed,
    sealed_but_for_writes,
    sealed_for_the_future_only,
    truncated,
    too_long,
    empty,
    opened_for_writing,
    plain_file,
    folder,
    path_only,
    device,
    pipe,
    end_of_a_socket,
    listening,
    events,
]


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
@pytest.mark.parametrize("part", ["weights", "index"])
def test_memory_that_a_forged_card_names(
    kept: Daemon, keeper: Keeper, paths: list[pathlib.Path], part: str, make: typing.Callable[[bytes], int]
) -> None:
    """The card names it, with its own digest: only what the memory is can tell."""
    path = paths[0]
    (place,) = places(kept, keeper, [path])
    parts = take_out(keeper, place)
    foreign = make(kept_parts.content(parts[part]))
    card = kept_parts.content(parts["card"])
    forged = kept_parts.with_memory(card, part, foreign, kept_parts.bytes_of(card, part))
    for name, fd in (("card", kept_parts.memfd(forged, kept_parts.LENGTH_SEALS, os.O_RDWR)), (part, foreign)):
        os.close(parts[name])
        parts[name] = fd
    put(keeper, place, parts)
    start(kept)
    assert resident(kept) == set()
    (line,) = lines_of(kept, "model.not_readopted")
    assert place in line["error"]
    assert f"its {part}: " in line["error"]
    assert str(path) in line["model"]
    assert_right(kept, keeper, [path])


def flipped(card: bytes) -> bytes:
    """One bit of its body."""
    at = kept_parts.PAGE + 8
    return card[:at] + bytes([card[at] ^ 1]) + card[at + 1 :]


def of_nothing(card: bytes) -> bytes:
    return kept_parts.with_body(card, b"")


def of_garbage(card: bytes) -> bytes:
    return kept_parts.with_body(card, hashlib.sha512(card).digest())


def without_weights(card: bytes) -> bytes:
    return kept_parts.with_body(card, kept_parts.with_field(kept_parts.body(card), kept_parts.MEMORY["weights"], b""))


def with_another_digest_of_its_index(card: bytes) -> bytes:
    return kept_parts.with_index_digest(card, b"another")


def longer_than_it_says(card: bytes) -> bytes:
    return card + bytes(kept_parts.PAGE)


@pytest.mark.parametrize(
    "change",
    [flipped, of_nothing, of_garbage, without_weights, with_another_digest_of_its_index, longer_than_it_says],
    ids=lambda change: change.__name__,
)
def test_cards_that_were_changed(
    kept: Daemon, keeper: Keeper, paths: list[pathlib.Path], change: typing.Callable[[bytes], bytes]
) -> None:
    path = paths[0]
    (place,) = places(kept, keeper, [path])
    parts = take_out(keeper, place)
    changed = change(kept_parts.content(parts["card"]))
    os.close(parts["card"])
    parts["card"] = kept_parts.memfd(changed, kept_parts.LENGTH_SEALS, os.O_RDWR)
    put(keeper, place, parts)
    start(kept)
    assert resident(kept) == set()
    (line,) = lines_of(kept, "model.not_readopted")
    assert place in line["error"]
    assert_right(kept, keeper, [path])


def test_thousands_of_names(kept: Daemon, keeper: Keeper, paths: list[pathlib.Path]) -> None:
    """A third of them names that no daemon uses, the others as a daemon names weights and cards."""
    good = places(kept, keeper, paths)
    kinds: list[tuple[str, typing.Callable[[bytes], int]]] = [
        ("junk-{:032x}", device),
        ("host.{:032x}.weights", unsealed),
        ("host.{:032x}.card", events),
    ]
    for number in range(MANY):
        name, make = kinds[number % 3]
        kept_parts.store(keeper, name.format(number), make(b"junk"))
    begin = time.monotonic()
    kept.start()
    print(f"{MANY} foreign descriptors: serves after {time.monotonic() - begin:.2f} s")
    assert time.monotonic() - begin < 2 * READY
    assert resident(kept) == {path.name for path in paths}
    wait_until(lambda: {name.split(".")[1] for name in keeper.names()} == set(good), "all else is let go of")
    assert_right(kept, keeper, paths)
