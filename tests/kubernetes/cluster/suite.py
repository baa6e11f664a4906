"""weightd as deploy/kubernetes installs it, on a real Kubernetes 1.20. Tests build on one another, in this order."""

import json
import pathlib
import signal
import sys
import typing

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent

sys.path.insert(0, str(HERE))

from chart import ROOT, Renderer  # noqa: E402
from cluster import Cluster  # noqa: E402
from compose import compose  # noqa: E402
from installation import (  # noqa: E402
    MODEL_BYTES,
    config,
    daemon_objects,
    model_pod,
    team_objects,
    write_models,
)
from machine import memory_of_no_pod  # noqa: E402
from schemas import Object  # noqa: E402

WEIGHTD = ("--namespace", "weightd")
FIRST, NEXT = "0.1.0", "next"


@pytest.fixture(scope="module")
def cluster() -> typing.Iterator[Cluster]:
    # Whoever ends the tests has the cluster end, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Cluster([FIRST, NEXT]) as running:
        yield running


@pytest.fixture(scope="module")
def digest(cluster: Cluster) -> str:
    """SHA-256 of the model's tensors."""
    return write_models(cluster.folder)


def daemon_pod(cluster: Cluster) -> Object:
    (pod,) = [pod for pod in cluster.get("pods", *WEIGHTD)["items"] if "deletionTimestamp" not in pod["metadata"]]
    return pod


def digests(cluster: Cluster, *where: str) -> list[str]:
    """What the model's pod has printed."""
    return cluster.kubectl("logs", "llama", "--container=server", *where, check=False).stdout.split()


def status_of(cluster: Cluster, pod: str, *where: str) -> dict[str, str]:
    """/proc/1/status of a pod's container."""
    text = cluster.kubectl("exec", pod, *where, "--", "cat", "/proc/1/status").stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def digest_now(cluster: Cluster) -> str:
    """Has the model's pod read every byte of what it has mapped, and gives what it found."""
    before = len(digests(cluster))
    cluster.kubectl("exec", "llama", "--container=server", "--", "sh", "-c", "kill -USR1 1")
    return cluster.until(lambda: digests(cluster)[before:], "the pod has read its weights")[0]


def resident(cluster: Cluster) -> str:
    """What the daemon says it has."""
    return cluster.kubectl("exec", "daemonset/weightd", *WEIGHTD, "--", "weightctl", "ls").stdout


def test_a_pod_waits_for_a_daemon_on_its_node(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", given=model_pod(cluster.folder, FIRST))

    def complains() -> bool:
        events = cluster.get("events", "--field-selector=reason=FailedMount")["items"]
        return any("hostPath type check failed" in event["message"] for event in events)

    cluster.until(complains, "the kubelet says what the pod waits for")


@pytest.mark.usefixtures("digest")
def test_the_daemon_becomes_ready(cluster: Cluster) -> None:
    objects = daemon_objects(cluster.folder, FIRST)
    cluster.kubectl("apply", "-f", "-", given=[each for each in objects if each["kind"] == "Namespace"])
    cluster.kubectl("apply", "-f", "-", given=objects)
    cluster.until(
        lambda: cluster.get("daemonset", "weightd", *WEIGHTD)["status"].get("numberReady") == 1, "the daemon is ready"
    )
    assert "llama" in resident(cluster)
    pod = daemon_pod(cluster)
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert sum(each["restartCount"] for each in pod["status"]["containerStatuses"]) == 0


def test_the_server_takes_every_other_object(cluster: Cluster, chart: Renderer) -> None:
    all_on = yaml.safe_load((HERE.parent / "values_all_on.yaml").read_text())
    for objects in (chart.objects(all_on), compose(ROOT / "deploy/kubernetes/overlays/example")):
        known = [each for each in objects if each["kind"] not in {"ServiceMonitor", "PriorityClass"}]
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=known)
    broken = next(each for each in daemon_objects(cluster.folder, FIRST) if each["kind"] == "DaemonSet")
    broken["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    assert cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=broken, check=False).returncode != 0


def test_the_pod_has_the_weights(cluster: Cluster, digest: str) -> None:
    assert cluster.until(lambda: digests(cluster), "the pod has attached")[0] == digest


def test_rights_are_as_few_as_the_manifests_say(cluster: Cluster) -> None:
    daemon = status_of(cluster, "daemonset/weightd", *WEIGHTD)
    assert int(daemon["CapEff"], 16) == int(daemon["CapBnd"], 16) == 1 << 14  # CAP_IPC_LOCK
    server = status_of(cluster, "llama", "--container=server")
    assert int(server["CapEff"], 16) == int(server["CapBnd"], 16) == 0
    assert server["Uid"].split() == ["65532"] * 4
    for status in (daemon, server):
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    assert int(daemon["VmLck"].split()[0]) << 10 >= MODEL_BYTES  # beyond RLIMIT_MEMLOCK
    for pod in (("daemonset/weightd", *WEIGHTD), ("llama", "--container=server")):
        touch = cluster.kubectl("exec", *pod, "--", "sh", "-c", "touch /new || touch /etc/new", check=False)
        assert "Read-only file system" in touch.stderr
    sockets = cluster.kubectl("exec", "llama", "--container=server", "--", "ls", "-A", "/run/weightd").stdout
    assert "admin.sock" not in sockets
    assert not (cluster.folder / "run/admin.sock").stat().st_mode & 0o077


def test_the_weights_are_charged_to_the_daemon(cluster: Cluster) -> None:
    read = "cat /sys/fs/cgroup/memory.current 2>/dev/null || cat /sys/fs/cgroup/memory/memory.usage_in_bytes"
    used = int(cluster.kubectl("exec", "llama", "--container=server", "--", "sh", "-c", read).stdout)
    assert used < 128 << 20 < MODEL_BYTES


def test_a_roll_leaves_the_pod_its_weights(cluster: Cluster, digest: str) -> None:
    before = cluster.get("pod", "llama")["status"]["containerStatuses"]
    old = daemon_pod(cluster)["metadata"]["name"]
    cluster.kubectl("set", "image", "daemonset/weightd", *WEIGHTD, f"*=localhost/weightd:{NEXT}")
    cluster.kubectl("rollout", "status", "daemonset/weightd", *WEIGHTD, "--timeout=170s")
    new = daemon_pod(cluster)
    assert new["metadata"]["name"] != old
    assert {each["image"] for each in new["spec"]["containers"]} == {f"localhost/weightd:{NEXT}"}
    assert digest_now(cluster) == digest  # of the old daemon's memory
    assert cluster.get("pod", "llama")["status"]["containerStatuses"] == before
    assert "llama" in resident(cluster)
    once = ("exec", "llama", "--container=server", "--", "python3", "/opt/server.py", "llama", "once")
    assert cluster.kubectl(*once).stdout.split() == [digest]  # of the new daemon's


def test_the_old_weights_are_charged_to_the_node(cluster: Cluster) -> None:
    assert memory_of_no_pod() > 0.9 * MODEL_BYTES
    cluster.kubectl("delete", "pod", "llama", "--grace-period=5")
    cluster.until(lambda: memory_of_no_pod() < 0.5 * MODEL_BYTES, "the pod has let go of the old weights")


def test_a_changed_list_is_loaded_without_a_restart(cluster: Cluster) -> None:
    before = daemon_pod(cluster)
    change = json.dumps({"data": {"weightd.yaml": config("llama", "small")}})
    cluster.kubectl("patch", "configmap", "weightd", *WEIGHTD, "--patch", change)
    cluster.until(lambda: "small" in resident(cluster), "the new model is on the node")
    after = daemon_pod(cluster)
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]


def test_a_pod_may_come_by_a_claim(cluster: Cluster, digest: str) -> None:
    objects = team_objects(cluster.folder, NEXT)
    cluster.kubectl("apply", "-f", "-", given=objects[:1])
    cluster.kubectl("apply", "-f", "-", given=objects[1:])
    assert cluster.until(lambda: digests(cluster, "--namespace=team-a"), "the claim's pod has attached")[0] == digest
