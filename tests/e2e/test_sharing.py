"""One copy, however many read it; and what pressure does to it."""

import concurrent.futures
import pathlib
import typing

import pytest
import weightd
from models import even_model, small_model
from processes import Daemon, Nginx, Reader, wait_until

Readers = typing.Callable[[Daemon], Reader]
Daemons = typing.Callable[..., Daemon]
MIB = 1 << 20


@pytest.mark.plain_only
def test_sixteen_processes_share_one_copy(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = even_model(files / "m.safetensors", 2048 * MIB, 300)
    daemon.ctl("preload", str(path))
    clients = [readers(daemon) for _ in range(16)]
    for client in clients:
        client.ask("attach", model=str(path))
    for client in clients:
        client.ask("touch")
    shared = sum(client.ask("pss")["pss"] for client in clients)
    assert shared <= 1.01 * path.stat().st_size
    memory = daemon.memory()
    assert memory["VmRSS"] - memory["RssShmem"] <= 128 * MIB
    assert memory["VmHWM"] <= path.stat().st_size + 256 * MIB


def test_private_writes_are_seen_by_nobody_else(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "m.safetensors")
    writer, reader = readers(daemon), readers(daemon)
    writer.ask("attach", model=str(path))
    reader.ask("attach", model=str(path))
    before = reader.ask("digest")["digest"]
    writer.ask("write")
    assert writer.ask("digest")["digest"] != before
    assert reader.ask("digest")["digest"] == before


def test_two_hundred_acquires_are_one_transfer(daemon: Daemon, web: Nginx, files: pathlib.Path) -> None:
    path = even_model(files / "m.safetensors", 64 * MIB, 8)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        models = list(
            pool.map(
                lambda _: weightd.attach(
                    web.url(path.name), socket_dir=str(daemon.socket_dir), framework="np", timeout=60
                ),
                range(200),
            )
        )
    assert len({model.revision for model in models}) == 1
    sent = sum(int(line.split('" ')[1].split()[1]) for line in web.requests(path.name) if '"GET' in line)
    assert sent <= path.stat().st_size + 2 * MIB
    assert daemon.status()["leases"] == 200
    for model in models:
        model.close()
    wait_until(lambda: daemon.status()["leases"] == 0, "all leases end")


def test_two_hundred_acquires_of_a_bad_model_get_one_error(daemon: Daemon, web: Nginx) -> None:
    def outcome(_: int) -> str:
        try:
            weightd.attach(web.url("absent.safetensors"), socket_dir=str(daemon.socket_dir), timeout=60)
        except weightd.Error as error:
            return error.reason
        return "attached"

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert set(pool.map(outcome, range(200))) == {"MODEL_NOT_FOUND"}


def test_a_model_beyond_the_budget_is_refused_with_numbers(daemons: Daemons, web: Nginx, files: pathlib.Path) -> None:
    daemon = daemons("host:\n  budget: 16MiB\n")
    path = even_model(files / "m.safetensors", 32 * MIB, 4)
    with pytest.raises(weightd.Error) as caught:
        weightd.attach(web.url(path.name), socket_dir=str(daemon.socket_dir), timeout=60)
    assert caught.value.reason == "BUDGET_EXCEEDED"
    assert "16" in str(caught.value) and "32" in str(caught.value)
    sent = sum(int(line.split('" ')[1].split()[1]) for line in web.requests(path.name) if '"GET' in line)
    assert sent < 2 * MIB
    assert daemon.ctl("preload", web.url(path.name), check=False).returncode == 75


def test_pressure_evicts_the_idle_and_never_the_leased(daemons: Daemons, files: pathlib.Path, readers: Readers) -> None:
    daemon = daemons("host:\n  budget: 40MiB\n")
    paths = [even_model(files / f"{i}.safetensors", 16 * MIB, 4, seed=i) for i in range(4)]
    leased = readers(daemon)
    leased.ask("attach", model=str(paths[0]))
    before = leased.ask("digest")
    daemon.ctl("preload", str(paths[1]))
    daemon.ctl("preload", str(paths[2]))  # takes the place of 1
    states = {m["model"]: m["state"] for m in daemon.ctl_json("ls")["models"] if m["state"] != "ABSENT"}
    assert set(states) == {f"file://{paths[0]}", f"file://{paths[2]}"}
    other = readers(daemon)
    other.ask("attach", model=str(paths[2]))
    refused = daemon.ctl("preload", str(paths[3]), check=False)
    assert refused.returncode == 75, refused.stderr
    assert leased.ask("digest") == before
    assert daemon.ctl("evict", str(paths[0]), check=False).returncode != 0


def test_memory_is_used_again_only_when_the_last_mapping_is_gone(
    daemons: Daemons, files: pathlib.Path, readers: Readers
) -> None:
    daemon = daemons("host:\n  budget: 24MiB\n")
    first, second = (even_model(files / f"{i}.safetensors", 16 * MIB, 4, seed=i) for i in (1, 2))
    holder = readers(daemon)
    holder.ask("attach", model=str(first))
    holder.ask("keep_mapping")
    daemon.ctl("evict", str(first), "--force")
    wait_until(lambda: int(daemon.status()["host"].get("draining", 0)) >= 16 * MIB, "the segment drains")
    assert daemon.ctl("preload", str(second), check=False).returncode == 75
    holder.kill()
    wait_until(lambda: int(daemon.status()["host"].get("draining", 0)) == 0, "the segment has drained")
    daemon.ctl("preload", str(second))
