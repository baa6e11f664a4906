"""Memory: the daemon pays for the weights and stays below its own limit; clients pay for what is theirs."""

import pathlib
import typing

import pytest
from node import CONFIG, Node, attached, memory_charged, own_users, truth
from oci import POD, Isolation

Nodes = typing.Callable[..., Node]
BIG, OTHER = "/models/big.safetensors", "/models/other.safetensors"
MIB = 1 << 20


def locked(node: Node) -> int:
    """Bytes that the daemon has locked."""
    for line in pathlib.Path(f"/proc/{node.daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmLck:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmLck")


def test_a_small_pod_reads_a_large_model(nodes: Nodes, models: pathlib.Path) -> None:
    """Pages belong to who touched them first, which is the daemon."""
    node = nodes(isolation=own_users(Isolation(memory="512m")))
    client = attached(node.client(own_users(Isolation(memory="32m"))), BIG)
    assert client.ask("digest")["digest"] == truth(models / "big.safetensors")
    size = (models / "big.safetensors").stat().st_size
    assert size > 5 * 32 * MIB
    assert memory_charged(client.container.pid) <= 32 * MIB
    assert memory_charged(node.daemon.pid) >= size


def test_the_budget_lies_inside_the_daemons_own_limit(nodes: Nodes, models: pathlib.Path) -> None:
    node = nodes(isolation=own_users(Isolation(memory="512m")))
    assert node.status()["host"]["budget"] == 256 * MIB
    client = attached(node.client(), BIG)
    answer = node.client().try_("attach", model=OTHER)
    assert answer["reason"] == "BUDGET_EXCEEDED", answer
    assert "160.01 MiB are leased" in answer["error"]
    assert "raise the host budget" in answer["hint"]
    assert client.ask("digest")["digest"] == truth(models / "big.safetensors")
    assert node.daemon.state()["Running"]


def test_doctor_sees_the_containers_limit(nodes: Nodes) -> None:
    node = nodes(isolation=own_users(Isolation(memory="512m")))
    assert "cgroup limit 512 MiB" in node.doctor()["memory"]


def test_of_a_large_limit_a_gibibyte_stays_free(nodes: Nodes) -> None:
    node = nodes(isolation=own_users(Isolation(memory="3g")))
    assert node.status()["host"]["budget"] == 2 << 30


def test_a_budget_beyond_the_limit_is_an_error_and_not_the_end(nodes: Nodes, models: pathlib.Path) -> None:
    """Whatever the config says: what doesn't fit the container is refused before a byte moves."""
    node = nodes(config=f"{CONFIG}host: {{budget: 4GiB}}\n", isolation=own_users(Isolation(memory="160m")))
    answer = node.client().try_("attach", model=BIG)
    assert answer["reason"] == "HOST_MEMORY_SHORT", answer
    assert node.daemon.state()["Running"]
    assert attached(node.client()).ask("digest")["digest"] == truth(models / "m.safetensors")


def test_serves_what_it_may_not_lock(nodes: Nodes, models: pathlib.Path) -> None:
    """24 MiB where a process may lock 8."""
    node = nodes()
    assert attached(node.client()).ask("digest")["digest"] == truth(models / "m.safetensors")
    assert locked(node) < 8 * MIB


@pytest.mark.parametrize("user", [0, POD.user])
def test_locks_everything_with_the_capability(nodes: Nodes, models: pathlib.Path, user: int) -> None:
    node = nodes(isolation=Isolation(user=user, capabilities=("IPC_LOCK",)))
    assert attached(node.client()).ask("digest")["digest"] == truth(models / "m.safetensors")
    assert locked(node) >= (models / "m.safetensors").stat().st_size
