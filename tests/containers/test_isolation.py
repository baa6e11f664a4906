"""Daemon and clients in containers of their own: what is shared is the weights, and nothing else."""

import os
import pathlib
import subprocess
import typing

import pytest
import seccomp
from node import MODEL, Client, Node, attached, own_users, truth
from oci import POD, Engine, Isolation
from processes import binary, ending, pss_of_segment, wait_until

Nodes = typing.Callable[..., Node]
NAMESPACES = ("pid", "mnt", "ipc", "uts", "net", "user")


def namespaces(pid: int) -> dict[str, str]:
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        ("ENOSYS", "refused: Function not implemented"),
        ("EPERM", "refused: Operation not permitted"),
        ("allowed", "available"),
    ],
)
def test_right_bytes_whatever_seccomp_says_of_io_uring(
    nodes: Nodes, engine: Engine, models: pathlib.Path, rule: str, finding: str
) -> None:
    node = nodes(isolation=own_users(Isolation(seccomp=seccomp.profile(engine.folder, rule))))
    assert node.doctor()["io_uring"] == finding
    assert attached(node.client()).ask("digest")["digest"] == truth(models / "m.safetensors")


def test_nothing_is_shared_but_the_sockets(node: Node) -> None:
    clients = [attached(node.client()) for _ in range(2)]
    pids = [node.daemon.pid, *(client.container.pid for client in clients)]
    spaces = [namespaces(pid) for pid in (os.getpid(), *pids)]
    for name in NAMESPACES:
        assert len({space[name] for space in spaces}) == len(spaces), f"two have one {name} namespace"
    for client in clients:
        about = client.ask("about")
        assert about["pid"] == 1
        assert about["uid"] == POD.user
        assert about["processes"] == [1]
        assert about["interfaces"] == ["lo"]
        assert about["writable"] == []
        nothing = "0" * 16
        assert about["status"] == {"CapEff": nothing, "CapBnd": nothing, "NoNewPrivs": "1", "Seccomp": "2"}


def test_two_pods_share_one_copy(node: Node, models: pathlib.Path) -> None:
    clients = [attached(node.client()) for _ in range(2)]
    assert {client.ask("digest")["digest"] for client in clients} == {truth(models / "m.safetensors")}
    size = (models / "m.safetensors").stat().st_size
    shares = [pss_of_segment(client.container.pid) for client in clients]
    assert all(0 < share < 0.6 * size for share in shares), shares
    assert node.status()["host"]["resident"] < 1.1 * size


def test_cpp_clients_read_the_same(node: Node) -> None:
    """One on the node itself, two in containers; leases end with them, killed or not."""
    before = node.leases()
    outside = subprocess.Popen(
        [binary("tests/e2e/holder"), str(node.sockets / "pods"), MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pods = [node.holder() for _ in range(2)]
    with ending([outside]):
        sums = {process.stdout.readline() for process in (outside, *(pod.process for pod in pods))}
        assert len(sums) == 1
        assert len(sums.pop().strip()) == 16
        assert node.leases() == before + 3
        pods[0].kill()
        pods[1].remove()
    wait_until(lambda: node.leases() == before, "the leases end", 1)


@pytest.mark.parametrize(
    "attacker",
    [
        pytest.param(own_users(), id="a user of another namespace"),
        pytest.param(own_users(Isolation(user=0)), id="root of another namespace"),
        pytest.param(POD, id="the daemon's own user"),
        pytest.param(Isolation(user=0), id="root without capabilities"),
        pytest.param(Isolation(user=0, capabilities=("DAC_OVERRIDE", "FOWNER", "SYS_PTRACE")), id="root with some"),
    ],
)
def test_sealed_memory_is_attacked_in_vain(
    nodes_of_attacks: Node, witness: Client, models: pathlib.Path, attacker: Isolation
) -> None:
    answer = nodes_of_attacks.client(attacker).ask("attack", model=MODEL, daemon=nodes_of_attacks.daemon.pid)
    assert answer == {"changed": [], "reached": [], "same": True, "attacked": 2}
    assert witness.ask("digest")["digest"] == truth(models / "m.safetensors")
    assert attached(nodes_of_attacks.client()).ask("digest")["digest"] == truth(models / "m.safetensors")


@pytest.fixture(scope="module")
def nodes_of_attacks(nodes: Nodes) -> Node:
    """A daemon whose user others may be, too."""
    return nodes()


@pytest.fixture(scope="module")
def witness(nodes_of_attacks: Node) -> Client:
    """Has mapped the model before anybody attacks it."""
    return attached(nodes_of_attacks.client())
