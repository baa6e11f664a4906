"""The manifests' own pods, as containers without a cluster: their rights suffice, and a restart costs no weights.

The tests build on one another, in this order.
"""

import json
import subprocess
import sys
import typing

import pytest
import yaml
from chart import ROOT
from installation import MODEL_BYTES, daemon_objects, keeper_template, model_pod, write_models
from schemas import Object

sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.path.insert(0, str(ROOT / "tests/bench"))
sys.path.insert(0, str(ROOT / "tests/containers"))

from images import weightd_context  # noqa: E402
from measure import SHMEM_HUGE, HugePages  # noqa: E402
from oci import PATIENCE, Engine, why_not  # noqa: E402
from processes import wait_until  # noqa: E402

TAG = "0.1.0"
# What podman has no word for: a scheduler's business, and probes, which are run here by hand.
OF_A_CLUSTER = ("nodeSelector", "tolerations", "priorityClassName", "serviceAccountName")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


class Node:
    """Where the pods run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.folder = engine.folder / "node"
        self.folder.mkdir(mode=0o755)
        (self.folder / "run").mkdir()
        engine.build(weightd_context(engine.folder / "context"), f"weightd:{TAG}")
        self.digest = write_models(self.folder)
        by_kind = {each["kind"]: each for each in daemon_objects(self.folder, TAG)}
        self._config = by_kind["ConfigMap"]
        template = by_kind["DaemonSet"]["spec"]["template"]
        self._daemon = {"metadata": {**template["metadata"], "name": "weightd"}, "spec": template["spec"]}
        for name in OF_A_CLUSTER:
            template["spec"].pop(name)
        # A cluster's privileged containers may write there; `podman play` leaves them a read-only one.
        template["spec"]["volumes"].append({"name": "sys", "hostPath": {"path": "/sys"}})
        for container in template["spec"]["initContainers"]:
            assert container["securityContext"]["privileged"]
            container["volumeMounts"] = [{"name": "sys", "mountPath": "/sys"}]
        (container,) = template["spec"]["containers"]
        self.probes = {name: container.pop(name)["exec"]["command"] for name in PROBES}

    def start_daemon(self) -> None:
        """The DaemonSet's pod, until its probes say that it is ready."""
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump({**self._config, "metadata": {"name": "weightd"}}))
        self._play(self._daemon, f"--configmap={config}")
        for name in PROBES:
            wait_until(lambda name=name: self.exec("weightd", *self.probes[name]).returncode == 0, name, PATIENCE)

    def start_keeper(self) -> None:
        """The keeper's pod, which serves from then on."""
        template = keeper_template(self.folder, TAG)
        for name in OF_A_CLUSTER:
            template["spec"].pop(name)
        self._play({"metadata": {**template["metadata"], "name": "keeper"}, "spec": template["spec"]})
        wait_until((self.folder / "run/keeper/keeper.sock").exists, "the keeper serves", PATIENCE)

    def stop_daemon(self) -> None:
        self._engine.podman("pod", "rm", "--force", "--time=5", "weightd")

    def start_model(self) -> None:
        self._play(model_pod(self.folder, TAG))

    def stop_keeper(self) -> None:
        self._engine.podman("pod", "rm", "--force", "--time=5", "keeper")

    def exec(self, pod: str, *command: str) -> typing.Any:
        """Runs a command in the main container of "weightd", "llama" or "keeper"."""
        container = {"weightd": "weightd-weightd", "llama": "llama-server", "keeper": "keeper-keeper"}[pod]
        return self._engine.podman("exec", container, *command, check=False)

    def attach_later(self) -> "subprocess.Popen[str]":
        """A second process of the model's pod that attaches, prints the digest and ends."""
        return self._engine.talk_to("llama-server", "python3", "/opt/server.py", "llama", "once")

    def log(self) -> str:
        """Of the daemon."""
        done = self._engine.podman("logs", "weightd-weightd")
        return done.stdout + done.stderr

    def digests(self) -> list[str]:
        """What the model's pod has printed."""
        return self._engine.podman("logs", "llama-server").stdout.split()

    def digest_now(self) -> str:
        """What the model's pod has mapped, every byte read anew."""
        before = len(self.digests())
        self.exec("llama", "sh", "-c", "kill -USR1 1")
        wait_until(lambda: len(self.digests()) > before, "the pod has read its weights", PATIENCE)
        return self.digests()[before]

    def readopted(self) -> list[bool]:
        """Whether each model was loaded by an earlier daemon."""
        listed = json.loads(self.exec("weightd", "weightctl", "ls", "--output", "json").stdout)["models"]
        return [model.get("readopted", False) for model in listed]

    def status(self, pod: str) -> dict[str, str]:
        """Of its first process, as the kernel tells it."""
        lines = self.exec(pod, "cat", "/proc/1/status").stdout.splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _play(self, pod: Object, *options: str) -> None:
        # Otherwise podman restarts init containers that have ended.
        spec = {**pod["spec"], "restartPolicy": "OnFailure"}
        file = self.folder / "pod.yaml"
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": spec}))
        self._engine.podman("play", "kube", "--network=none", *options, str(file))


@pytest.fixture(scope="module")
def node() -> typing.Iterator[Node]:
    if why := why_not():
        pytest.skip(why)
    with Engine() as engine, HugePages("never"):
        yield Node(engine)


def test_the_daemon_serves_with_one_capability(node: Node) -> None:
    node.start_daemon()
    assert "[advise]" in SHMEM_HUGE.read_text()
    status = node.status("weightd")
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 14  # CAP_IPC_LOCK
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["VmLck"].split()[0]) << 10 >= MODEL_BYTES  # beyond RLIMIT_MEMLOCK
    assert "Read-only file system" in node.exec("weightd", "touch", "/new").stderr
    assert not (node.folder / "run/admin.sock").stat().st_mode & 0o077


def test_the_model_pod_has_the_weights_without_rights(node: Node) -> None:
    node.start_model()
    wait_until(node.digests, "the pod has attached", PATIENCE)
    assert node.digests() == [node.digest]
    status = node.status("llama")
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == ["65532"] * 4
    assert "Read-only file system" in node.exec("llama", "touch", "/new").stderr
    assert node.exec("llama", "ls", "/run/weightd").stdout.split() == ["handles.sock", "weightd.lock", "weightd.sock"]


def test_the_weights_outlive_their_daemon(node: Node) -> None:
    node.stop_daemon()
    node.exec("llama", "sh", "-c", "kill -USR1 1")
    wait_until(lambda: len(node.digests()) == 2, "the pod has read its weights again", PATIENCE)
    node.start_daemon()
    again = node.exec("llama", "python3", "/opt/server.py", "llama", "once")
    assert [*node.digests(), *again.stdout.split()] == [node.digest] * 3, again.stderr


def test_with_a_keeper_a_new_daemon_has_the_weights_at_once(node: Node) -> None:
    node.start_keeper()
    assert int(node.status("keeper")["CapEff"], 16) == 0
    wait_until(lambda: "keeper.back" in node.log(), "the daemon has found it", PATIENCE)
    model = node.folder / "models/llama.safetensors"
    model.rename(model.with_suffix(".away"))
    node.stop_daemon()
    node.start_daemon()
    assert node.readopted() == [True]
    again = node.exec("llama", "python3", "/opt/server.py", "llama", "once")
    assert again.stdout.split() == [node.digest], again.stderr


def test_pods_read_and_attach_while_the_daemon_is_replaced(node: Node) -> None:
    """Nobody can read the model's file any more."""
    node.stop_daemon()
    with node.attach_later() as newcomer:
        assert newcomer.stderr is not None
        assert any("waiting for the daemon" in line for line in newcomer.stderr)
        assert node.digest_now() == node.digest
        node.start_daemon()
        assert node.digest_now() == node.digest
        said, errors = newcomer.communicate(timeout=PATIENCE)
        assert said.split() == [node.digest], errors
    assert node.readopted() == [True]


def test_a_new_keeper_is_told_what_there_is(node: Node) -> None:
    """As when the OnDelete DaemonSet's pod is deleted."""
    node.stop_keeper()
    wait_until(lambda: node.log().count("keeper.away") == 1, "the daemon misses it", PATIENCE)
    node.start_keeper()
    wait_until(lambda: "keeper.back" in node.log(), "the daemon has found it", PATIENCE)
    node.stop_daemon()
    node.start_daemon()
    assert node.readopted() == [True]
    assert node.digest_now() == node.digest
