"""What operators see and do: the CLI against the real daemon, health, reflection, permissions."""

import contextlib
import json
import os
import pathlib
import stat
import subprocess
import typing

import grpc
import pytest
import weightd
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from models import even_model, expected, small_model
from processes import Daemon, Reader, binary, wait_until
from shelves import same

Readers = typing.Callable[[Daemon], Reader]
Daemons = typing.Callable[..., Daemon]
MIB = 1 << 20


def test_a_pinned_model_outlasts_pressure(daemons: Daemons, files: pathlib.Path) -> None:
    daemon = daemons("host:\n  budget: 24MiB\n")
    pinned, other = (even_model(files / f"{i}.safetensors", 16 * MIB, 4, seed=i) for i in (1, 2))
    daemon.ctl("preload", str(pinned), "--pin")
    assert daemon.ctl("preload", str(other), check=False).returncode == 75
    assert daemon.ctl("evict", str(pinned), check=False).returncode != 0
    daemon.ctl("unpin", str(pinned))
    daemon.ctl("preload", str(other))


def test_a_model_fills_memory_that_was_made_ready(daemons: Daemons, files: pathlib.Path) -> None:
    daemon = daemons("host:\n  budget: 512MiB\n  ready: 100MiB\n")

    def ready() -> int:
        return int(daemon.status()["host"].get("ready", 0)) // MIB

    for number, mib in enumerate((80, 100, 120)):
        path = even_model(files / f"{number}.safetensors", mib * MIB, 4, seed=number)
        wait_until(lambda: ready() == 100, "memory is ready")
        assert "100 MiB" in daemon.ctl("status").stdout
        daemon.ctl("preload", str(path))
        with weightd.attach(str(path), socket_dir=daemon.socket_dir, framework="np") as model:
            assert same(model, path)
        daemon.ctl("evict", str(path))


def test_an_eviction_before_the_claim_costs_no_attach(
    daemon: Daemon, files: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_model(files / "m.safetensors")
    take = weightd._attach.acquire
    evictions: list[str] = []

    def acquire(*args: typing.Any) -> typing.Any:
        grant = take(*args)
        if not evictions:
            daemon.ctl("evict", str(path), "--force")
            evictions.append(str(path))
        return grant

    monkeypatch.setattr(weightd._attach, "acquire", acquire)
    with weightd.attach(str(path), socket_dir=daemon.socket_dir, timeout=60, framework="np") as model:
        assert same(model, path)
        assert daemon.status()["leases"] == 1
    assert evictions


def test_leases_name_their_holder(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "m.safetensors")
    reader = readers(daemon)
    reader.ask("attach", model=str(path))
    (lease,) = daemon.ctl_json("leases")["leases"]
    assert (lease["uid"], lease["claimed"], lease["model"]) == (os.getuid(), True, f"file://{path}")
    assert daemon.ctl("evict", str(path), check=False).returncode == 75
    reader.end()
    wait_until(lambda: not daemon.ctl_json("leases")["leases"], "the lease ends with its process")
    daemon.ctl("evict", str(path))
    assert daemon.ctl("show", str(path), check=False).returncode == 66


def test_a_result_that_cannot_be_written_is_an_error(daemon: Daemon) -> None:
    with open("/dev/full", "w") as full:
        command = [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "status"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74 and "could not be written" in done.stderr


def test_watch_tells_what_happens(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    watcher = subprocess.Popen(
        [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "watch", "--output", "json"],
        stdout=subprocess.PIPE,
    )
    assert watcher.stdout is not None
    pipe = watcher.stdout.fileno()
    os.set_blocking(pipe, False)
    seen = b""

    def tells() -> bool:
        nonlocal seen
        if b"EVICTED" not in seen:
            daemon.ctl("evict", str(path), check=False)
            daemon.ctl("preload", str(path))
        with contextlib.suppress(BlockingIOError):
            seen += os.read(pipe, 1 << 16)
        return b"LOAD_FINISHED" in seen and b"EVICTED" in seen

    wait_until(tells, "the events arrive")
    watcher.kill()
    watcher.communicate()


def test_inspect_needs_no_daemon(files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    weightctl = binary("client/cli/weightctl")
    command = [weightctl, "inspect", str(path), "--output", "json"]
    table = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    raw = path.read_bytes()
    got = {t["name"]: raw[t["offset"] : t["offset"] + t["nbytes"]] for t in table["tensors"]}
    assert got == expected(path)
    assert table["metadata"] == {"format": "pt", "seed": "1"}
    (files / "bad.safetensors").write_bytes(raw[:-1])
    bad = subprocess.run([weightctl, "inspect", str(files / "bad.safetensors")], capture_output=True, text=True)
    assert bad.returncode == 65 and "bad.safetensors" in bad.stderr
    assert subprocess.run([weightctl, "inspect", str(files / "none")], capture_output=True).returncode == 66
    assert subprocess.run([weightctl, "inspekt"], capture_output=True).returncode == 64


@pytest.mark.parametrize("name", ["weightd.sock", "admin.sock"])
def test_health_and_reflection(daemon: Daemon, name: str) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket_dir}/{name}") as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=20)
        services = {service.name for service in next(answers).list_services_response.service}
    assert {"weightd.sock": "weightd.v1.Weights", "admin.sock": "weightd.v1.Admin"}[name] in services


def test_the_folder_is_the_daemons_own(daemon: Daemon) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in daemon.socket_dir.iterdir()}
    assert stat.S_IMODE(daemon.socket_dir.stat().st_mode) == 0o700
    assert modes.pop("weightd.lock") == 0o600
    assert modes == {"admin.sock": 0o600, "weightd.sock": 0o600, "handles.sock": 0o600}


def test_no_daemon_is_said_with_its_remedy(tmp_path: pathlib.Path) -> None:
    command = [binary("client/cli/weightctl"), "--socket-dir", str(tmp_path), "ls"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 69
    assert str(tmp_path) in done.stderr and "weightd" in done.stderr


def test_malformed_models_say_where_and_why(daemon: Daemon, files: pathlib.Path) -> None:
    (files / "bad.safetensors").write_bytes(small_model(files / "m.safetensors").read_bytes()[:-1])
    done = daemon.ctl("preload", str(files / "bad.safetensors"), check=False)
    assert done.returncode == 65
    assert "bad.safetensors" in done.stderr
