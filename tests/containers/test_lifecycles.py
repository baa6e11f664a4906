"""Loads, kills and restarts, seen from containers."""

import os
import pathlib
import typing

import pytest
from node import CONFIG, MODEL, Client, Node, attached, own_users, truth
from oci import Isolation
from processes import wait_until

Nodes = typing.Callable[..., Node]
# How long a lease may outlive its client.
SOON = 1.0


def kills_for_memory() -> int:
    """How many processes the kernel has killed because memory was short."""
    counters = dict(line.split() for line in pathlib.Path("/proc/vmstat").read_text().splitlines())
    return int(counters["oom_kill"])


def test_progress_streams_while_a_load_runs(nodes: Nodes, models: pathlib.Path) -> None:
    """From a server that only the daemon's network has: clients have none."""
    node = nodes(config=f"{CONFIG}  http: {{allowed_networks: [127.0.0.0/8]}}\n  bandwidth: 16MB/s\n")
    url = node.server("m.safetensors")
    clients = [node.client() for _ in range(2)]
    for client in clients:
        client.send("attach", model=url)
    for client in clients:
        assert "error" not in client.answer()
        done = [done for phase, done, total in client.progress if phase == "TRANSFERRING" and total]
        assert done == sorted(done)
        assert len({count for count in done if 0 < count < 24 << 20}) >= 2, client.progress
        assert client.ask("digest")["digest"] == truth(models / "m.safetensors")
    assert node.status()["leases"] == 2


def test_a_killed_pod_gives_its_leases_back_at_once(node: Node, models: pathlib.Path) -> None:
    survivor, *victims = [attached(node.client()) for _ in range(3)]
    assert node.leases() == 3
    victims[0].container.kill()
    wait_until(lambda: node.leases() == 2, "the lease of a container that was killed ends", SOON)
    os.kill(victims[1].container.pid, 9)
    wait_until(lambda: node.leases() == 1, "the lease of a process that was killed ends", SOON)
    assert survivor.ask("digest")["digest"] == truth(models / "m.safetensors")
    survivor.container.remove()
    wait_until(lambda: node.leases() == 0, "the last lease ends", SOON)


def test_a_pod_without_memory_costs_nobody_else_anything(node: Node, models: pathlib.Path) -> None:
    survivor = attached(node.client())
    victim = attached(node.client(own_users(Isolation(memory="48m"))))
    assert node.leases() == 2
    killed = kills_for_memory()
    victim.send("eat")
    assert victim.container.wait() == 137
    assert kills_for_memory() > killed
    wait_until(lambda: node.leases() == 1, "the lease ends", SOON)
    assert survivor.ask("digest")["digest"] == truth(models / "m.safetensors")
    survivor.container.remove()


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_pods_outlive_the_daemon_and_find_the_next(nodes: Nodes, models: pathlib.Path, signal: str) -> None:
    node = nodes(isolation=own_users())
    right = truth(models / "m.safetensors")
    client = attached(node.client())
    node.daemon.kill(signal)
    assert node.daemon.wait() == (137 if signal == "KILL" else 0)
    assert client.ask("digest")["digest"] == right
    answer = client.try_("attach", model=MODEL)
    assert answer["reason"] == "DAEMON_UNREACHABLE", answer
    node.restart()
    assert client.ask("digest", which=0)["digest"] == right
    assert attached(client).ask("digest", which=1)["digest"] == right
    assert node.leases() == 1


def test_a_daemon_in_a_new_container_serves_the_same_pod(nodes: Nodes, models: pathlib.Path) -> None:
    """As when a DaemonSet is rolled: the folder stays, all else is new."""
    node = nodes(isolation=own_users())
    client: Client = attached(node.client())
    node.replace()
    assert client.ask("digest")["digest"] == truth(models / "m.safetensors")
    assert attached(client).ask("digest", which=1)["digest"] == truth(models / "m.safetensors")
    assert node.leases() == 1
