"""Models in GPU memory, on the fake driver: the true daemon, its workers, and clients, each a process of its own."""

import hashlib
import json
import os
import pathlib
import signal
import typing

import pytest
from gpu_node import MIB, GpuNode, on_gpu, right
from models import even_model, sharded_model, small_model
from processes import Daemon, Nginx, Reader, wait_until

Readers = typing.Callable[[Daemon], Reader]
Daemons = typing.Callable[..., Daemon]


@pytest.fixture
def node() -> typing.Iterator[GpuNode]:
    node = GpuNode("2x128MiB")
    yield node
    node.close()


@pytest.fixture
def daemon(node: GpuNode, daemons: Daemons) -> Daemon:
    return daemons(node.config())


@pytest.fixture
def path(files: pathlib.Path) -> pathlib.Path:
    return small_model(files / "m.safetensors")


def refusal(readers: Readers, daemon: Daemon, model: object, device: str = "cuda:0", **options: object) -> str:
    """The reason why a client can't attach."""
    reader = readers(daemon)
    reader.send("attach", model=str(model), device=device, **options)
    answer = reader.answer()
    assert answer.get("hint"), answer
    return str(answer["reason"])


def gpus(daemon: Daemon) -> list[dict[str, typing.Any]]:
    """As `weightctl status` has them."""
    found: list[dict[str, typing.Any]] = daemon.status()["gpus"]
    return found


def copies(daemon: Daemon, model: object) -> list[str]:
    """The GPUs that the model is on."""
    shown = daemon.ctl_json("show", str(model))["model"]
    return [copy["gpu"] for copy in shown.get("gpu_copies", [])]


def test_eight_processes_share_one_allocation(
    daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers
) -> None:
    clients = [on_gpu(readers, daemon, path) for _ in range(8)]
    assert all(right(client, path) for client in clients)
    assert node.state()["live_allocations"] == 1
    assert node.state()["created_allocations"] == 1
    assert daemon.status()["leases"] == 8
    (gpu, other) = gpus(daemon)
    assert gpu["uuid"] == node.uuid(0)
    assert (gpu["state"], other["state"]) == ("RUNNING", "IDLE")
    assert gpu["tier"]["resident"] == node.state()["live_bytes"]
    for client in clients[:7]:
        client.ask("release")
    clients[7].kill()
    wait_until(lambda: daemon.status()["leases"] == 0, "leases end")
    # It stays for whoever comes next.
    assert node.state()["live_allocations"] == 1
    assert right(on_gpu(readers, daemon, path), path)
    assert node.state()["created_allocations"] == 1


def test_a_write_to_shared_memory_hurts_only_the_writer(daemon: Daemon, path: pathlib.Path, readers: Readers) -> None:
    writer, bystander = on_gpu(readers, daemon, path), on_gpu(readers, daemon, path)
    assert writer.ask("fault")["result"] == 700  # CUDA_ERROR_ILLEGAL_ADDRESS
    assert right(bystander, path)
    assert right(on_gpu(readers, daemon, path), path)


def test_private_copies_are_their_clients_own(
    daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers
) -> None:
    daemon.ctl("preload", str(path))
    owner = on_gpu(readers, daemon, path, mode="private")
    assert right(owner, path)
    assert owner.ask("fault")["result"] == 0
    assert not right(owner, path)
    # Nothing of it is the daemon's: no lease, no budget, and it stays whatever becomes of the daemon.
    wait_until(lambda: daemon.status()["leases"] == 0, "the lease ends")
    assert gpus(daemon)[0]["tier"]["resident"] == 0
    shared = on_gpu(readers, daemon, path)
    again = on_gpu(readers, daemon, path, mode="private")
    assert right(shared, path)
    assert right(again, path)
    assert node.state()["live_allocations"] == 3
    for client in (owner, again):
        client.kill()
    node.await_live(1)


def test_a_killed_worker_costs_no_host_memory(
    daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers
) -> None:
    client, on_host = on_gpu(readers, daemon, path), readers(daemon)
    os.kill(gpus(daemon)[0]["worker_pid"], signal.SIGKILL)
    assert right(client, path)  # an exported allocation outlives its exporter
    on_host.ask("attach", model=str(path))
    assert right(on_host, path)
    wait_until(lambda: gpus(daemon)[0]["state"] == "FAILED", "the loss is noticed")
    assert "gpu.lost" in daemon.log()
    newcomer = on_gpu(readers, daemon, path)
    assert right(newcomer, path)
    assert gpus(daemon)[0]["state"] == "RUNNING"
    client.kill()
    newcomer.kill()
    node.await_live(1)


def test_clients_outlive_the_daemon(daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers) -> None:
    client = on_gpu(readers, daemon, path)
    worker = gpus(daemon)[0]["worker_pid"]
    daemon.kill()
    wait_until(lambda: not pathlib.Path(f"/proc/{worker}").exists(), "the worker ends with its daemon")
    assert right(client, path)
    daemon.start()
    assert right(client, path)
    assert right(on_gpu(readers, daemon, path), path)
    client.kill()
    node.await_live(1)


def test_a_client_that_waits_hears_of_the_daemons_end(
    daemons: Daemons, node: GpuNode, path: pathlib.Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_COPY_DELAY_US", "2000000")
    daemon = daemons(node.config())
    waiting = readers(daemon)
    waiting.send("attach", model=str(path), device="cuda:0", timeout=20)  # it also waits for the next daemon
    wait_until(lambda: gpus(daemon)[0]["tier"]["loading"], "the copy is made")
    assert daemon.stop() == 0
    assert waiting.answer()["reason"] in ("SHUTTING_DOWN", "DAEMON_UNREACHABLE")


def test_room_is_made_and_refused(daemons: Daemons, node: GpuNode, files: pathlib.Path, readers: Readers) -> None:
    daemon = daemons(node.config(budget="40MiB"))
    first, second, third = (even_model(files / f"{i}.safetensors", 18 * MIB, 4, seed=i) for i in (1, 2, 3))
    holder = on_gpu(readers, daemon, first)
    on_gpu(readers, daemon, second).ask("release")
    wait_until(lambda: daemon.status()["leases"] == 1, "the lease ends")
    third_client = on_gpu(readers, daemon, third)
    assert copies(daemon, second) == []
    assert right(third_client, third)
    assert refusal(readers, daemon, second) == "BUDGET_EXCEEDED"
    holder.ask("release")
    wait_until(lambda: daemon.status()["leases"] == 1, "the lease ends")
    # From host memory: no store is asked.
    second.unlink()
    assert on_gpu(readers, daemon, second).ask("digest")
    assert copies(daemon, first) == []
    daemon.ctl("evict", str(third), "--gpu", "0", "--force")
    assert gpus(daemon)[0]["tier"]["draining"] == 18 * MIB
    third_client.kill()
    wait_until(lambda: gpus(daemon)[0]["tier"]["draining"] == 0, "what was evicted is free")
    node.await_live(1)


def test_a_full_gpu_is_said_to_be_full(daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers) -> None:
    node.break_calls("cuMemCreate * OUT_OF_MEMORY")
    assert refusal(readers, daemon, path) == "DEVICE_MEMORY_SHORT"
    node.break_calls()
    assert right(on_gpu(readers, daemon, path), path)
    assert node.state()["live_allocations"] == 1


def test_two_gpus_from_one_read(
    daemons: Daemons, node: GpuNode, files: pathlib.Path, web: Nginx, readers: Readers
) -> None:
    sharded_model(files / "m", shards=3)
    rest = f"models:\n- name: m\n  uri: {web.url('m/')}\n  preload: true\n  placement: {{gpus: [all]}}\n"
    daemon = daemons(node.config(rest=rest))
    wait_until(lambda: len(copies(daemon, "m")) == 2, "copies on both")
    reads = sum(len(web.requests(f"m/{shard.name}")) for shard in (files / "m").glob("*.safetensors"))
    on_host = readers(daemon)
    on_host.ask("attach", model="m")
    truth = on_host.ask("digest")
    for device in ("cuda:0", "cuda:1"):
        assert on_gpu(readers, daemon, "m", device).ask("digest") == truth
    assert sum(len(web.requests(f"m/{shard.name}")) for shard in (files / "m").glob("*.safetensors")) == reads


def test_a_model_larger_than_ring_and_host_budget_loads_to_a_gpu(
    daemons: Daemons, node: GpuNode, files: pathlib.Path, web: Nginx, readers: Readers
) -> None:
    path = even_model(files / "m.safetensors", 100 * MIB, 16)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rest = (
        f"host:\n  budget: 60MiB\nmodels:\n- name: m\n  uri: {web.url('m.safetensors')}\n"
        f"  sha256: ['{digest}']\n  placement: {{gpus: [0], gpu_only: true}}\n"
    )
    daemon = daemons(node.config(ring="16MiB", rest=rest))
    client = on_gpu(readers, daemon, "m")
    assert right(client, path)
    assert daemon.status()["host"]["resident"] < MIB
    assert node.state()["live_allocations"] == 1
    on_host = readers(daemon)
    on_host.send("attach", model="m")
    assert on_host.answer()["reason"] == "PLACEMENT_DIFFERS"


def test_small_files_come_with_a_model_that_is_only_on_a_gpu(
    daemons: Daemons, node: GpuNode, files: pathlib.Path, readers: Readers
) -> None:
    small_model(files / "m/model.safetensors")
    beside = {"config.json": b"{}", "tokenizer.json": bytes(range(256)) * 5000}
    for name, text in beside.items():
        (files / "m" / name).write_bytes(text)
    truth = {name: hashlib.sha256(text).hexdigest() for name, text in beside.items()}
    rest = f"models:\n- name: m\n  uri: file://{files}/m/\n  placement: {{gpus: [0], gpu_only: true}}\n"
    daemon = daemons(node.config(rest=rest))
    for mode in ("shared", "private"):
        assert on_gpu(readers, daemon, "m", mode=mode).ask("files")["files"] == truth
    assert MIB < daemon.status()["host"]["resident"] < 2 * MIB, "they are charged to the host, the weights aren't"
    daemon.ctl("evict", "m", "--force")
    wait_until(lambda: int(daemon.status()["host"].get("resident", 0)) == 0, "all memory is back")


def test_a_gpu_that_is_lost_in_mid_load_costs_only_itself(
    daemon: Daemon, node: GpuNode, files: pathlib.Path, readers: Readers
) -> None:
    path = even_model(files / "m.safetensors", 48 * MIB, 8)
    node.break_calls("cuMemcpyHtoDAsync 2 ECC_UNCORRECTABLE")
    on_host, unlucky = readers(daemon), readers(daemon)
    unlucky.send("attach", model=str(path), device="cuda:0")
    on_host.ask("attach", model=str(path))
    assert right(on_host, path)
    # Its copy is made once more by the next worker, or it is told that the GPU was lost.
    answer = unlucky.answer()
    assert answer.get("reason", "DEVICE_UNAVAILABLE") == "DEVICE_UNAVAILABLE", answer
    assert right(on_gpu(readers, daemon, path), path)
    assert node.state()["live_allocations"] == 1


def test_draining_leaves_no_process(daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers) -> None:
    client = on_gpu(readers, daemon, path)
    refused = daemon.ctl("drain", "--gpu", "0", check=False)
    assert refused.returncode == 75
    assert "in use" in refused.stderr
    client.kill()
    wait_until(lambda: daemon.status()["leases"] == 0, "the lease ends")
    daemon.ctl("drain", "--gpu", node.uuid(0))
    assert node.state()["processes"] == []
    assert node.state()["live_allocations"] == 0
    assert gpus(daemon)[0]["state"] == "DRAINED"
    assert refusal(readers, daemon, path) == "DEVICE_UNAVAILABLE"
    assert right(on_gpu(readers, daemon, path, "cuda:1"), path)
    on_host = readers(daemon)
    on_host.ask("attach", model=str(path))
    daemon.ctl("resume", "--gpu", "0")
    assert right(on_gpu(readers, daemon, path), path)


def test_what_clients_may_not_ask_for(
    daemons: Daemons, node: GpuNode, path: pathlib.Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = f"models:\n- name: old\n  uri: file://{path}\n  placement: {{gpus: [0], handles: legacy}}\n"
    daemon = daemons(node.config(rest=rest))
    assert refusal(readers, daemon, "old") == "PLACEMENT_DIFFERS"
    legacy = on_gpu(readers, daemon, "old", legacy=True)
    assert right(legacy, path)
    copy = small_model(path.with_name("other.safetensors"))
    assert refusal(readers, daemon, copy, legacy=True) == "PLACEMENT_DIFFERS"
    assert right(on_gpu(readers, daemon, "old", mode="private"), path)
    # A client sees what its environment shows it: the second GPU as its first.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", node.uuid(1))
    assert right(on_gpu(readers, daemon, copy), copy)
    assert copies(daemon, copy) == [node.uuid(1)]
    assert refusal(readers, daemon, copy, "cuda:1") == "DEVICE_NOT_VISIBLE"


def test_a_client_of_another_nodes_gpu_is_told_so(
    daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "3x64MiB")
    assert refusal(readers, daemon, path, "cuda:2") == "DEVICE_UNAVAILABLE"


def test_the_same_binary_without_a_driver(daemons: Daemons, path: pathlib.Path, readers: Readers) -> None:
    daemon = daemons("gpu:\n  driver: /nowhere/libcuda.so.1\n")
    assert "gpu.none" in daemon.log()
    client = readers(daemon)
    client.ask("attach", model=str(path))
    assert right(client, path)
    assert daemon.status()["gpus"] == []
    refused = daemon.ctl("preload", str(path), "--gpu", "0", check=False)
    assert refused.returncode == 75
    assert "no GPU" in refused.stderr
    doctor = daemon.ctl("doctor", "--cuda-driver", "/nowhere/libcuda.so.1", check=False)
    assert "/nowhere/libcuda.so.1" in doctor.stdout


@pytest.mark.parametrize(
    "call",
    [
        "cuInit",
        "cuDevicePrimaryCtxRetain",
        "cuMemAllocHost",
        "cuMemCreate",
        "cuMemAddressReserve",
        "cuMemMap",
        "cuMemSetAccess",
        "cuStreamCreate",
        "cuEventCreate",
        "cuMemcpyHtoDAsync",
        "cuEventRecord",
        "cuMemExportToShareableHandle",
    ],
)
def test_each_call_that_fails_is_an_error_and_leaves_nothing(
    daemon: Daemon, node: GpuNode, path: pathlib.Path, readers: Readers, call: str
) -> None:
    node.break_calls(f"{call} * UNKNOWN")
    reason = refusal_of_operator(daemon, path)
    assert reason in ("DEVICE_UNAVAILABLE", "INTERNAL"), reason
    assert node.state()["live_allocations"] == 0
    node.break_calls()
    assert right(on_gpu(readers, daemon, path), path)
    assert node.state()["live_allocations"] == 1


def refusal_of_operator(daemon: Daemon, path: pathlib.Path) -> str:
    """The reason why a preload to GPU 0 fails."""
    done = daemon.ctl("preload", str(path), "--gpu", "0", "--output", "json", check=False)
    assert done.returncode != 0

    return str(json.loads(done.stderr.splitlines()[-1])["error"]["reason"])
