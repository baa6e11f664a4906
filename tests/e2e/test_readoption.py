"""Models outlive the daemon: what one leaves with the keeper, the next serves without reading it again."""

import hashlib
import json
import os
import pathlib
import socket
import time
import typing

import pytest
import weightd
from keepers import Keeper
from loglines import line_of, lines_of
from models import even_model, sharded_model, small_model
from processes import INSTRUMENTED, PATIENCE, Daemon, Nginx, Reader, wait_until

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]
MIB = 1 << 20
# What a restart may take.
READY = PATIENCE if INSTRUMENTED else 2.0


@pytest.fixture
def kept(daemons: Daemons, keeper: Keeper) -> Daemon:
    """A daemon that keeps its models there."""
    return daemons(keeper.config)


def kill(daemon: Daemon) -> None:
    """SIGKILL, once the keeper has what there is."""
    wait_until(lambda: not int(daemon.status()["keeper"].get("pending", 0)), "all is kept")
    daemon.kill()


def restart(daemon: Daemon) -> None:
    """The next one serves at once."""
    kill(daemon)
    begin = time.monotonic()
    daemon.start()
    assert time.monotonic() - begin < READY


def models(daemon: Daemon) -> dict[str, typing.Any]:
    """Those that are there, by the last part of their names."""
    return {model["model"].rsplit("/", 1)[-1]: model for model in daemon.ctl_json("ls")["models"]}


def host(daemon: Daemon) -> dict[str, int]:
    return {key: int(value) for key, value in daemon.status()["host"].items() if key != "ready"}


def attach(daemon: Daemon, model: object, **options: typing.Any) -> weightd.Model:
    return weightd.attach(str(model), socket_dir=daemon.socket_dir, timeout=60, framework="np", **options)


def all_requests(web: Nginx) -> list[str]:
    return web.log_path.read_text().splitlines()


def test_a_killed_daemon_costs_no_byte(kept: Daemon, web: Nginx, files: pathlib.Path, readers: Readers) -> None:
    even_model(files / "a.safetensors", 32 * MIB, 8)
    small_model(files / "b.safetensors")
    a, b = web.url("a.safetensors"), web.url("b.safetensors")
    client = readers(kept)
    client.ask("attach", model=a)
    digest = client.ask("digest")
    kept.ctl("preload", b)
    kept.ctl("pin", b)
    before, bytes_before = models(kept), host(kept)
    assert not any(model.get("readopted") for model in before.values())
    requests = all_requests(web)
    for number in range(3):
        restart(kept)
        after = models(kept)
        assert after.keys() == before.keys()
        assert all(model["readopted"] for model in after.values())
        assert after["b.safetensors"]["pinned"]
        assert not after["a.safetensors"].get("pinned")
        for name, model in after.items():
            same = ("revision", "host_bytes", "tensor_count", "loaded_at")
            assert [model[key] for key in same] == [before[name][key] for key in same]
        assert int(after["a.safetensors"]["uses"]) == number + 1
        assert host(kept) == bytes_before
        newcomer = readers(kept)
        newcomer.ask("attach", model=a)
        assert newcomer.ask("digest") == digest
        assert client.ask("digest") == digest
        newcomer.end()
    assert all_requests(web) == requests
    assert [line["model"] for line in lines_of(kept, "model.readopted")[:2]] == [a, b]
    assert "readopted" in kept.ctl("ls").stdout
    assert "\nweightd_readopted_models 2\n" in kept.ctl("metrics").stdout


def test_a_daemon_that_was_told_to_end_leaves_its_models(kept: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "m.safetensors")
    kept.ctl("preload", str(path))
    assert kept.stop() == 0
    path.unlink()
    kept.start()
    readers(kept).ask("attach", model=str(path))


def test_folders_come_back_whole(kept: Daemon, files: pathlib.Path) -> None:
    folder = sharded_model(files / "m", 3)
    (folder / "config.json").write_text('{"a": 1}')
    with attach(kept, folder) as model:
        before = {name: bytes(model.raw(name)) for name in model.tensors}
        metadata = model.metadata
    description = kept.ctl_json("show", str(folder))
    restart(kept)
    with attach(kept, folder) as model:
        assert {name: bytes(model.raw(name)) for name in model.tensors} == before
        assert dict(model.files) == {"config.json": b'{"a": 1}'}
        assert model.metadata == metadata
    again = kept.ctl_json("show", str(folder))
    for key in ("files", "metadata", "tensors", "verification"):
        assert again.get(key) == description.get(key)


def test_bytes_that_came_back_can_be_held_against_a_digest(kept: Daemon, files: pathlib.Path) -> None:
    padded = small_model(files / "padded.safetensors")
    # Its tensors are moved, and its header is not in memory.
    raw = padded.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8 : 8 + length])).encode()
    odd = files / "odd.safetensors"
    odd.write_bytes((len(header) | 1).to_bytes(8, "little") + header.ljust(len(header) | 1) + raw[8 + length :])
    for path in (padded, odd):
        kept.ctl("preload", str(path))
    restart(kept)
    for path in (padded, odd):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with attach(kept, path, sha256=digest):
            pass
        with pytest.raises(weightd.Error, match="sha256"):
            attach(kept, path, sha256="0" * 64)
    assert all(model["readopted"] for model in models(kept).values())


def test_what_clients_map_is_in_use_without_their_help(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    daemon = daemons(f"host: {{budget: 100MiB}}\n{keeper.config}")
    mapped, unmapped, third = (even_model(files / f"{i}.safetensors", 40 * MIB, 4, seed=i) for i in (1, 2, 3))
    client = readers(daemon)
    client.ask("attach", model=str(mapped))
    digest = client.ask("digest")
    daemon.ctl("preload", str(unmapped))
    restart(daemon)
    assert daemon.status().get("leases", 0) == 0
    daemon.ctl("preload", str(third))
    assert models(daemon).keys() == {"1.safetensors", "3.safetensors"}
    daemon.ctl("evict", str(mapped))
    assert client.ask("digest") == digest
    wait_until(lambda: 40 * MIB <= host(daemon).get("draining", 0) < 41 * MIB, "what is mapped drains")
    # Over restarts, too.
    restart(daemon)
    assert models(daemon).keys() == {"3.safetensors"}
    wait_until(lambda: 40 * MIB <= host(daemon).get("draining", 0) < 41 * MIB, "it drains on")
    refused = daemon.ctl("preload", str(even_model(files / "4.safetensors", 90 * MIB, 4)), check=False)
    assert refused.returncode == 75
    assert client.ask("digest") == digest
    client.kill()
    wait_until(lambda: host(daemon).get("draining", 0) == 0, "it is free")
    wait_until(lambda: len(keeper.names()) == 3, "and the keeper has let go of it")


def test_evicted_models_leave_the_keeper(kept: Daemon, keeper: Keeper, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    kept.ctl("preload", str(path))
    wait_until(lambda: len(keeper.names()) == 3, "the model is kept")
    kept.ctl("evict", str(path))
    wait_until(lambda: not keeper.names(), "the keeper has let go of it")


def test_a_source_that_changed_meanwhile_is_noticed(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    daemon = daemons(f"cache: {{revalidate: always}}\n{keeper.config}")
    path = small_model(files / "m.safetensors")
    with attach(daemon, path) as model:
        old = model.revision
    kill(daemon)
    small_model(files / "new", seed=2).rename(path)
    daemon.start()
    with attach(daemon, path) as model:
        assert model.revision == old

    def newest() -> str:
        with attach(daemon, path) as model:
            return model.revision

    wait_until(lambda: newest() != old, "the new revision is there")
    restart(daemon)
    assert newest() != old


def test_another_config_says_who_sees_what(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    named = f"models: [{{name: llama, uri: 'file://{path}', preload: true, pin: true}}]\n"
    first = daemons(named + keeper.config)
    wait_until(lambda: models(first)["m.safetensors"].get("state") == "RESIDENT", "it is preloaded")
    assert models(first)["m.safetensors"]["pinned"]
    kill(first)
    denied = f"listeners: [{{name: all, directory: DIR, access: {{deny: ['file://{path}']}}}}]\n"
    second = daemons(denied.replace("DIR", str(files / "sockets")) + keeper.config, socket_dir=first.socket_dir)
    model = models(second)["m.safetensors"]
    assert model["readopted"]
    assert not model.get("pinned")
    assert not model.get("aliases")
    with pytest.raises(weightd.NotAllowedError):
        weightd.attach(f"file://{path}", socket_dir=files / "sockets", timeout=60)


def test_a_smaller_budget_keeps_what_fits(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    first = daemons(f"host: {{budget: 100MiB}}\n{keeper.config}")
    for i in (1, 2):
        first.ctl("preload", str(even_model(files / f"{i}.safetensors", 40 * MIB, 4, seed=i)))
    kill(first)
    second = daemons(f"host: {{budget: 60MiB}}\n{keeper.config}", socket_dir=first.socket_dir)
    assert models(second).keys() == {"2.safetensors"}
    (line,) = lines_of(second, "model.not_readopted")
    assert "1.safetensors" in line["model"]
    assert "budget" in line["error"]
    wait_until(lambda: len(keeper.names()) == 3, "the keeper has let go of the other")


def hostile_descriptors(folder: pathlib.Path) -> dict[str, int]:
    """Names, and what nobody should take for a model's memory."""
    place = "host." + "0" * 31
    ours, _ = socket.socketpair()
    reading, _ = os.pipe()
    short = os.memfd_create("short", os.MFD_ALLOW_SEALING)
    return {
        "garbage": os.open("/dev/zero", os.O_RDWR),
        f"{place}1.card": os.dup(ours.fileno()),
        f"{place}2.card": os.open(folder, os.O_RDONLY),
        f"{place}3.card": os.open(folder / "plain", os.O_RDWR | os.O_CREAT, 0o600),
        f"{place}4.card": reading,
        f"{place}5.card": short,
        f"{place}6.weights": os.memfd_create("no card", os.MFD_ALLOW_SEALING),
    }


def test_a_hostile_keeper_is_believed_nothing(
    kept: Daemon, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    good, bad = small_model(files / "good.safetensors"), small_model(files / "bad.safetensors", seed=2)
    kept.ctl("preload", str(bad))
    wait_until(lambda: len(keeper.names()) == 3, "the model is kept")
    (card,) = (name for name in keeper.names() if name.endswith(".card"))
    place = card.removesuffix("card")
    kept.ctl("preload", str(good))
    wait_until(lambda: len(keeper.names()) == 6, "both are kept")
    kill(kept)
    names = keeper.names()
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.truncate(unsealed, 4 * MIB)
    keeper.remove(f"{place}weights")
    keeper.store(f"{place}weights", unsealed)
    hostile = hostile_descriptors(files)
    for name, fd in hostile.items():
        keeper.store(name, fd)
    kept.start()
    assert models(kept).keys() == {"good.safetensors"}
    lines = lines_of(kept, "model.not_readopted")
    assert "descriptors in the store that are of no model: 1: garbage" in line_of(kept, "keeper.unknown")["error"]
    del hostile["garbage"]
    assert len(lines) == len(hostile) + 1
    for name in [*hostile, place]:
        assert sum(name.removeprefix("host.").split(".")[0] in line["error"] for line in lines) == 1
    wait_until(lambda: sorted(keeper.names()) == sorted(set(names) - {n for n in names if n.startswith(place)}), "gone")
    readers(kept).ask("attach", model=str(bad))
    readers(kept).ask("attach", model=str(good))


def test_many_models_are_ready_at_once(kept: Daemon, files: pathlib.Path) -> None:
    for i in range(150):
        kept.ctl("preload", str(small_model(files / f"{i}.safetensors", seed=i)))
    before = host(kept)
    restart(kept)
    assert len(models(kept)) == 150
    assert host(kept) == before


def test_restarts_leave_no_descriptor_and_no_memory(
    kept: Daemon, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    path = even_model(files / "m.safetensors", 16 * MIB, 8)
    client = readers(kept)
    client.ask("attach", model=str(path))
    digest = client.ask("digest")
    restart(kept)
    before, descriptors, names = host(kept), kept.descriptors(), sorted(keeper.names())
    memory = keeper.memory()
    for _ in range(10):
        restart(kept)
    assert host(kept) == before
    assert sorted(keeper.names()) == names
    assert kept.descriptors() <= descriptors + 4
    assert keeper.memory() <= memory + MIB
    assert client.ask("digest") == digest
