"""Copies on GPUs outlive the daemon, too: on the fake driver, with the true keeper, daemon, workers and clients."""

import os
import pathlib
import random
import typing

import pytest
from gpu_node import GRANULE, MIB, GpuNode, on_gpu, right
from keepers import Keeper
from loglines import line_of, lines_of
from models import even_model, small_model
from processes import Daemon, Nginx, Reader, wait_until

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]


@pytest.fixture
def node() -> typing.Iterator[GpuNode]:
    node = GpuNode("2x128MiB")
    yield node
    node.close()


@pytest.fixture
def kept(node: GpuNode, daemons: Daemons, keeper: Keeper) -> Daemon:
    """A daemon that keeps its models there."""
    return daemons(node.config(rest=keeper.config))


def copies(keeper: Keeper) -> list[str]:
    """Those that it holds."""
    return [name for name in keeper.names() if name.startswith("gpu.")]


def await_kept(keeper: Keeper, count: int) -> list[str]:
    """Until it holds so many copies."""
    wait_until(lambda: len(copies(keeper)) == count, f"{count} copies in the keeper")
    return copies(keeper)


def descriptor(keeper: Keeper, wanted: str) -> int:
    """Of what it holds under that name, the caller's from here on; it holds it still."""
    taken = keeper.take()
    (found,) = (os.dup(fd) for name, fd in taken if name == wanted)
    for _, fd in taken:
        os.close(fd)
    return found


def resident(daemon: Daemon, gpu: int = 0) -> int:
    return int(daemon.status()["gpus"][gpu]["tier"].get("resident", 0))


def test_a_killed_daemon_costs_no_upload(
    kept: Daemon, node: GpuNode, keeper: Keeper, web: Nginx, files: pathlib.Path, readers: Readers
) -> None:
    # As long as a whole number of GPU pages: its mark takes one more.
    path = even_model(files / "m.safetensors", 8 * MIB, 4)
    url = web.url("m.safetensors")
    client = on_gpu(readers, kept, url)
    (name,) = await_kept(keeper, 1)
    assert name.endswith(node.uuid(0))
    requests = web.requests("m.safetensors")
    for number in range(4):
        if number % 2:
            assert kept.stop() == 0
        else:
            kept.kill()
        kept.start()
        newcomer = on_gpu(readers, kept, url)
        assert right(newcomer, path)
        assert right(client, path)
        assert resident(kept) == node.state()["live_bytes"] == 8 * MIB + GRANULE
        newcomer.end()
        assert len(lines_of(kept, "model.readopted", gpu=node.uuid(0))) == number + 1
    assert node.state()["created_allocations"] == 1
    assert len(lines_of(kept, "gpu.copied")) == 1
    assert not lines_of(kept, "model.not_readopted")
    assert web.requests("m.safetensors") == requests
    assert copies(keeper) == [name]
    # It is free when nobody holds it any more, the keeper neither.
    client.kill()
    kept.ctl("evict", url, "--gpu", "0", "--force")
    node.await_live(0)
    assert await_kept(keeper, 0) == []


def test_models_that_are_only_on_a_gpu_come_back(
    node: GpuNode, daemons: Daemons, keeper: Keeper, web: Nginx, files: pathlib.Path, readers: Readers
) -> None:
    path = small_model(files / "m/model.safetensors")
    (files / "m/config.json").write_text("{}")
    rest = f"models:\n- name: m\n  uri: file://{files}/m/\n  placement: {{gpus: [0, 1], gpu_only: true}}\n"
    daemon = daemons(node.config(rest=rest + keeper.config))
    client = on_gpu(readers, daemon, "m")
    before = client.ask("files")
    await_kept(keeper, 2)
    host = daemon.status()["host"]["resident"]
    path.rename(files / "away")
    for _ in range(2):
        daemon.kill()
        daemon.start()
        for device in ("cuda:0", "cuda:1"):
            newcomer = on_gpu(readers, daemon, "m", device)
            assert right(newcomer, files / "away")
            assert newcomer.ask("files") == before
        assert daemon.status()["host"]["resident"] == host
    assert [node.state(gpu)["created_allocations"] for gpu in (0, 1)] == [1, 1]


def test_clients_take_leases_on_what_they_have_mapped(
    kept: Daemon, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    path, other = small_model(files / "m.safetensors"), small_model(files / "other.safetensors", seed=2)
    client = on_gpu(readers, kept, path)
    await_kept(keeper, 1)
    kept.kill()
    kept.start()
    line_of(kept, "model.readopted", gpu=GpuNode.uuid(0))
    assert kept.status().get("leases", 0) == 0
    client.ask("keep_mapping")
    client.ask("attach", model=str(other))
    assert kept.status()["leases"] == 2
    refused = kept.ctl("evict", str(path), "--gpu", "0", check=False)
    assert refused.returncode == 75
    assert "in use" in refused.stderr
    client.end()
    wait_until(lambda: kept.status().get("leases", 0) == 0, "leases end with their client")
    kept.ctl("evict", str(path), "--gpu", "0")


def test_a_keeper_full_of_other_memory_is_believed_nothing(
    kept: Daemon, node: GpuNode, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    paths = [small_model(files / f"{i}.safetensors", seed=i) for i in range(4)]
    names = []
    for count, path in enumerate(paths):
        on_gpu(readers, kept, path).end()
        names += [name for name in await_kept(keeper, count + 1) if name not in names]
    kept.kill()
    # Garbage, memory of no GPU; of another model; two of one name; of another GPU; of a GPU that isn't there.
    held = descriptor(keeper, names[1])
    garbage = os.memfd_create("garbage")
    os.truncate(garbage, GRANULE)
    for name in names[:3]:
        keeper.remove(name)
    keeper.store(names[0], garbage)
    keeper.store(names[1], os.open("/dev/null", os.O_RDWR))
    keeper.store(names[2], held)
    keeper.store(names[3], garbage)
    elsewhere = names[0].replace(node.uuid(0), node.uuid(1))
    keeper.store(elsewhere, held)
    keeper.store(names[0].replace(node.uuid(0), node.uuid(7)), held)
    keeper.store("gpu.nonsense", held)
    os.close(held)
    kept.start()
    wait_until(lambda: len(lines_of(kept, "model.not_readopted")) == 6, "all are refused")
    assert "gpu.nonsense" in line_of(kept, "keeper.unknown")["error"]
    assert not lines_of(kept, "model.readopted", gpu=node.uuid(0))
    for why in ("not what a GPU exports", "its mark is missing", "several descriptors", "another GPU", "no GPU"):
        assert any(why in line["error"] for line in lines_of(kept, "model.not_readopted")), why
    assert await_kept(keeper, 0) == []
    node.await_live(0)
    created = node.state()["created_allocations"]
    for path in paths:
        assert right(on_gpu(readers, kept, path), path)
    assert node.state()["created_allocations"] == created + 4


def test_memory_that_ended_with_its_worker_is_made_again(
    kept: Daemon,
    node: GpuNode,
    keeper: Keeper,
    files: pathlib.Path,
    readers: Readers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = small_model(files / "m.safetensors")
    client = on_gpu(readers, kept, path)
    await_kept(keeper, 1)
    monkeypatch.setenv("FAKE_CUDA_EXPORTER_MUST_LIVE", "1")
    kept.kill()
    kept.start()
    line_of(kept, "model.not_readopted", gpu=node.uuid(0))
    monkeypatch.delenv("FAKE_CUDA_EXPORTER_MUST_LIVE")
    on_host = readers(kept)
    on_host.ask("attach", model=str(path))
    assert right(on_host, path)
    assert right(client, path)


@pytest.mark.parametrize(
    "fault",
    [
        "cuDevicePrimaryCtxRetain * UNKNOWN",  # the worker can't start
        "cuMemImportFromShareableHandle * OUT_OF_MEMORY",
        "cuMemcpyDtoH * ECC_UNCORRECTABLE",  # it ends
        "cuMemcpyDtoH * KILL",
    ],
)
def test_a_gpu_that_fails_for_a_while_costs_no_copy(
    kept: Daemon, node: GpuNode, keeper: Keeper, files: pathlib.Path, readers: Readers, fault: str
) -> None:
    path = small_model(files / "m.safetensors")
    client = on_gpu(readers, kept, path)
    kept_copies = await_kept(keeper, 1)
    kept.kill()
    node.break_calls(fault)
    kept.start()
    assert "is tried again" in line_of(kept, "model.not_readopted", gpu=node.uuid(0))["error"]
    on_host = readers(kept)
    on_host.ask("attach", model=str(path))
    assert right(on_host, path)
    # Whoever wants it is told why it isn't there; it is kept, and charged.
    newcomer = readers(kept)
    newcomer.send("attach", model=str(path), device="cuda:0")
    assert "error" in newcomer.answer()
    assert copies(keeper) == kept_copies
    tier = kept.status()["gpus"][0]["tier"]
    assert int(tier.get("loading", 0)) == node.state()["live_bytes"]
    node.break_calls()
    assert right(on_gpu(readers, kept, path), path)
    assert right(client, path)
    assert len(lines_of(kept, "model.readopted", gpu=node.uuid(0))) == 1
    assert node.state()["created_allocations"] == 1
    assert resident(kept) == node.state()["live_bytes"]
    assert copies(keeper) == kept_copies


def test_a_copy_that_never_comes_back_is_let_go(
    kept: Daemon, node: GpuNode, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    path = small_model(files / "m.safetensors")
    on_gpu(readers, kept, path).end()
    await_kept(keeper, 1)
    kept.kill()
    node.break_calls("cuMemcpyDtoH * OUT_OF_MEMORY")
    kept.start()
    client = readers(kept)

    def made_anew() -> bool:
        client.send("attach", model=str(path), device="cuda:0")
        return "error" not in client.answer()

    wait_until(made_anew, "it is made again")
    node.break_calls()
    assert right(client, path)
    assert "10 times" in lines_of(kept, "model.not_readopted")[-1]["error"]
    assert node.state()["created_allocations"] == 2
    assert len(await_kept(keeper, 1)) == 1


def test_other_handles_make_other_copies(
    node: GpuNode, daemons: Daemons, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    path = small_model(files / "m.safetensors")

    def config(handles: str) -> str:
        rest = f"models:\n- name: m\n  uri: file://{path}\n  placement: {{gpus: [0], handles: {handles}}}\n"
        return node.config(rest=rest + keeper.config)

    daemon = daemons(config("descriptor"))
    client = on_gpu(readers, daemon, "m")
    await_kept(keeper, 1)
    # Of an earlier daemon.
    daemon.kill()
    file = daemon.log_path.with_name("weightd.yaml")
    file.write_text(config("legacy"))
    daemon.start()
    assert "legacy handles now" in line_of(daemon, "model.not_readopted", gpu=node.uuid(0))["error"]
    assert await_kept(keeper, 0) == []
    wait_until(lambda: len(lines_of(daemon, "gpu.copied")) == 2, "it is copied anew")
    assert right(client, path)
    client.end()
    # Of the same.
    file.write_text(config("descriptor"))
    daemon.ctl("reload")
    assert "descriptors now" in line_of(daemon, "gpu.dropped", gpu=node.uuid(0))["error"]
    await_kept(keeper, 1)
    assert right(on_gpu(readers, daemon, "m"), path)


def test_daemons_killed_at_any_moment(
    kept: Daemon, node: GpuNode, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    paths = [small_model(files / f"{i}.safetensors", seed=i) for i in range(2)]
    chance = random.Random(1)
    clients = [readers(kept) for _ in paths]
    for _ in range(12):
        for client, path in zip(clients, paths, strict=True):
            client.send("attach", model=str(path), device="cuda:0")
        wait_until(lambda: chance.random() < 0.2, "a random moment")
        kept.kill()
        kept.start()
        for client, path in zip(clients, paths, strict=True):
            assert "error" not in client.answer()
            assert right(client, path)
            client.ask("release")
        if chance.random() < 0.5:
            kept.ctl("evict", str(paths[0]), "--gpu", "0", "--force", check=False)
    wait_until(lambda: resident(kept) == node.state()["live_bytes"], "the budget is the truth")
    assert len(copies(keeper)) == node.state()["live_allocations"]
