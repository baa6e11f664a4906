"""Daemon and clients in containers of their own: what is shared is the weights, and nothing else."""

import os
import pathlib
import typing

import pytest
import seccomp
from node import CONFIG, MODEL, Client, Node, attached, own_users, truth
from oci import POD, Engine, Isolation
from processes import pss_of_segment

Nodes = typing.Callable[..., Node]
NAMESPACES = ("pid", "mnt", "ipc", "uts", "net", "user")


def namespaces(pid: int) -> dict[str, str]:
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


@pytest.fixture(scope="module")
def node(nodes: Nodes) -> Node:
    """A daemon in a user namespace of its own."""
    return nodes(isolation=own_users())


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


class TestFolders:
    """A pod is given one folder. What it finds there decides what it may do."""

    def refusal(self, client: Client, model: str = MODEL) -> typing.Any:
        answer = client.try_("attach", model=model)
        assert "error" in answer, answer
        return answer

    def test_nothing_is_mounted(self, node: Node) -> None:
        answer = self.refusal(node.client(nothing=True))
        assert answer["reason"] == "DAEMON_UNREACHABLE"
        assert "no daemon at /run/weightd: No such file or directory" in answer["error"]

    def test_the_wrong_folder_is_mounted(self, node: Node, engine: Engine, tmp_path: pathlib.Path) -> None:
        empty = engine.folder / tmp_path.name
        empty.mkdir(mode=0o755)
        answer = self.refusal(node.client(sockets=empty))
        assert answer["reason"] == "DAEMON_UNREACHABLE"
        assert "no daemon at /run/weightd" in answer["error"]
        assert "mount" in answer["hint"]

    def test_clients_and_operators_have_folders_of_their_own(self, node: Node, engine: Engine, image: str) -> None:
        answer = self.refusal(node.client(sockets=node.sockets))
        assert answer["reason"] == "DAEMON_UNREACHABLE"
        mounts = [f"{node.sockets}/pods:/run/weightd:ro"]
        done = engine.run(image, "weightctl", "status", mounts=mounts, isolation=own_users())
        assert done.returncode == 69
        assert "is weightd running, and is its socket /run/weightd/admin.sock?" in done.stderr

    def test_the_folder_is_closed_to_this_user(self, nodes: Nodes) -> None:
        closed = nodes(config=CONFIG.replace("0755", "0700"))
        answer = self.refusal(closed.client())
        assert answer["reason"] == "NOT_ALLOWED"
        assert "Permission denied" in answer["error"]
        assert "listener" in answer["hint"]
        # Its own user outside is another one inside a user namespace: numbers count as the node sees them.
        attached(closed.client(POD))

    def test_a_folder_gives_what_its_listener_may(self, nodes: Nodes, models: pathlib.Path) -> None:
        node = nodes(
            config="""
socket_dir: /run/weightd
listeners:
  - name: small
    directory: /run/weightd/pods
    mode: 0755
    access: {attach: ["file:///models/m.*"], load: ["file:///models/m.*"]}
  - name: big
    directory: /run/weightd/big
    mode: 0755
    access: {attach: ["file:///models/big.*"]}
sources:
  file: {roots: [/models]}
"""
        )
        small, big = node.client(), node.client(sockets=node.sockets / "big")
        assert self.refusal(small, "/models/big.safetensors")["reason"] == "NOT_ALLOWED"
        assert self.refusal(big)["reason"] == "NOT_ALLOWED"
        assert self.refusal(big, "/models/big.safetensors")["reason"] in ("NOT_ALLOWED", "MODEL_NOT_RESIDENT")
        assert attached(small).ask("digest")["digest"] == truth(models / "m.safetensors")

    def test_pods_of_one_number_are_two_users(self, nodes: Nodes) -> None:
        """Each has user 65532 inside; a listener counts sessions by the numbers that the node sees."""
        node = nodes(config=CONFIG.replace("mode: 0755", "mode: 0755\n    max_sessions: 4"))
        first, second = own_users(), own_users()
        of_first = [attached(node.client(first)) for _ in range(2)]
        assert self.refusal(node.client(first))["reason"] == "TOO_MANY_REQUESTS"
        of_second = [attached(node.client(second)) for _ in range(2)]
        assert len(of_first) + len(of_second) == node.status()["sessions"]

    def test_a_daemon_in_a_user_namespace_cannot_tell_users_apart(self, nodes: Nodes) -> None:
        """All who are not of its namespace are one user to it, and have one share."""
        node = nodes(config=CONFIG.replace("mode: 0755", "mode: 0755\n    max_sessions: 4"), isolation=own_users())
        for _ in range(2):
            attached(node.client())
        assert self.refusal(node.client())["reason"] == "TOO_MANY_REQUESTS"
