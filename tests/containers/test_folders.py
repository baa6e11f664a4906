"""A pod is given one folder. What it finds there, and as whom, decides what it may do."""

import pathlib
import typing

from node import CONFIG, MODEL, Client, Node, attached, own_users, truth
from oci import POD, Engine

Nodes = typing.Callable[..., Node]


def refusal(client: Client, model: str = MODEL) -> typing.Any:
    answer = client.try_("attach", model=model)
    assert "error" in answer, answer
    return answer


def test_nothing_is_mounted(node: Node) -> None:
    answer = refusal(node.client(nothing=True))
    assert answer["reason"] == "DAEMON_UNREACHABLE"
    assert "no daemon at /run/weightd: No such file or directory" in answer["error"]


def test_the_wrong_folder_is_mounted(node: Node, engine: Engine, tmp_path: pathlib.Path) -> None:
    empty = engine.folder / tmp_path.name
    empty.mkdir(mode=0o755)
    answer = refusal(node.client(sockets=empty))
    assert answer["reason"] == "DAEMON_UNREACHABLE"
    assert "no daemon at /run/weightd" in answer["error"]
    assert "mount" in answer["hint"]


def test_clients_and_operators_have_folders_of_their_own(node: Node, engine: Engine, image: str) -> None:
    answer = refusal(node.client(sockets=node.sockets))
    assert answer["reason"] == "DAEMON_UNREACHABLE"
    mounts = [f"{node.sockets}/pods:/run/weightd:ro"]
    done = engine.run(image, "weightctl", "status", mounts=mounts, isolation=own_users())
    assert done.returncode == 69
    assert "is weightd running, and is its socket /run/weightd/admin.sock?" in done.stderr


def test_the_folder_is_closed_to_this_user(nodes: Nodes) -> None:
    closed = nodes(config=CONFIG.replace("0755", "0700"))
    answer = refusal(closed.client())
    assert answer["reason"] == "NOT_ALLOWED"
    assert "Permission denied" in answer["error"]
    assert "listener" in answer["hint"]
    # Its own user outside is another one inside a user namespace: numbers count as the node sees them.
    attached(closed.client(POD))


def test_a_folder_gives_what_its_listener_may(nodes: Nodes, models: pathlib.Path) -> None:
    node = nodes(
        config="""
socket_dir: /run/weightd
listeners:
  - name: loads
    directory: /run/weightd/pods
    mode: 0755
    access: {attach: ["file:///models/m.*"], load: ["file:///models/m.*"]}
  - name: attaches
    directory: /run/weightd/others
    mode: 0755
    access: {attach: ["file:///models/m.*"]}
sources:
  file: {roots: [/models]}
"""
    )
    loads, attaches = node.client(), node.client(sockets=node.sockets / "others")
    assert refusal(attaches)["reason"] == "MODEL_NOT_RESIDENT"
    for client in (loads, attaches):
        assert refusal(client, "/models/big.safetensors")["reason"] == "NOT_ALLOWED"
        assert attached(client).ask("digest")["digest"] == truth(models / "m.safetensors")


def test_pods_of_one_number_are_two_users(nodes: Nodes) -> None:
    """Each has user 65532 inside; a listener counts sessions by the numbers that the node sees."""
    node = nodes(config=CONFIG.replace("mode: 0755", "mode: 0755\n    max_sessions: 4"))
    first, second = own_users(), own_users()
    of_first = [attached(node.client(first)) for _ in range(2)]
    assert refusal(node.client(first))["reason"] == "TOO_MANY_REQUESTS"
    of_second = [attached(node.client(second)) for _ in range(2)]
    assert len(of_first) + len(of_second) == node.status()["sessions"]


def test_a_daemon_in_a_user_namespace_cannot_tell_users_apart(nodes: Nodes) -> None:
    """All who are not of its namespace are one user to it, and have one share."""
    node = nodes(config=CONFIG.replace("mode: 0755", "mode: 0755\n    max_sessions: 4"), isolation=own_users())
    for _ in range(2):
        attached(node.client())
    assert refusal(node.client())["reason"] == "TOO_MANY_REQUESTS"
