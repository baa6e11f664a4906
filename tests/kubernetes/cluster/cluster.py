"""A real Kubernetes of one node, as processes: etcd, API server, controllers, scheduler, containerd, kubelet."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import typing

from machine import Machine

HERE = pathlib.Path(__file__).resolve().parent

sys.path.insert(0, str(HERE.parent))

from images import weightd_context  # noqa: E402
from oci import Engine  # noqa: E402

KUBERNETES = pathlib.Path(
    os.environ.get("WEIGHTD_KUBERNETES_CACHE") or pathlib.Path.home() / ".cache/weightd-kubernetes"
)
LINK = "wdkube0"
# How long anything may take before a test gives up: images are unpacked, probes take their time.
PATIENCE = 180.0
TOKEN = "operator"

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "weightd",
    "plugins": [
        {
            "type": "bridge",
            "bridge": LINK,
            "isGateway": True,
            "ipMasq": False,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.7.0/24"}]]},
        }
    ],
}


def free_port() -> int:
    """Of loopback, at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A context manager: up when entered, and everything as before when left. Needs root.

    Its images are localhost/pause:1 and localhost/weightd, which has each of the tags.
    """

    def __init__(self, image_tags: list[str]) -> None:
        self._tags = image_tags
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weightd-kube-", dir="/tmp"))
        self.folder.chmod(0o711)
        self._machine = Machine(self.folder, LINK)
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._ports = {
            name: free_port() for name in ("etcd", "peer", "api", "kubelet", "health", "controllers", "scheduler")
        }

    def __enter__(self) -> "Cluster":
        try:
            archives = _make_images(self.folder, self._tags[0])
            self._configure()
            self._start_control_plane()
            self._start_node(archives)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Pods first, by the cluster itself; then its processes, from the last to the first; then the machine."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._processes and self._processes[-1][0] == "kubelet":
                everything = ("--all", "--all-namespaces", "--timeout=60s")
                self.kubectl("delete", "daemonsets", *everything, check=False)
                self.kubectl("delete", "pods", *everything, "--grace-period=1", check=False)
        for _, process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._machine.restore()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubectl(self, *arguments: str, given: object = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `given` goes to its standard input as JSON, a list as a List of objects."""
        if isinstance(given, list):
            given = {"apiVersion": "v1", "kind": "List", "items": given}
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.folder}/kubeconfig", *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    def get(self, *arguments: str) -> typing.Any:
        """An object, or a List of them."""
        return json.loads(self.kubectl("get", *arguments, "--output=json").stdout)

    def until(self, condition: typing.Callable[[], typing.Any], what: str, patience: float = PATIENCE) -> typing.Any:
        """Asks until it gives something true; fails with `what` and the ends of the logs if it doesn't in time."""
        end = time.monotonic() + patience
        while not (result := condition()):
            for name, process in self._processes:
                assert process.poll() is None, f"{name} ended: {self.log(name)}"
            assert time.monotonic() < end, f"not within {patience} s: {what}\n{self.log('kubelet')}"
            time.sleep(0.2)
        return result

    def log(self, name: str) -> str:
        """The end of a process' log; empty if it hasn't started."""
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace")[-3000:] if file.exists() else ""

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            environment = {
                **os.environ,
                "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
                # Otherwise a kubelet first asks the network whether it is in Amazon's cloud.
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment
            )
        self._processes.append((name, process))

    def _configure(self) -> None:
        folder, ports = self.folder, self._ports
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], capture_output=True, check=True)
        (folder / "tokens.csv").write_text(f"{TOKEN},operator,1,system:masters\n")
        (folder / "kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {
                                "server": f"https://127.0.0.1:{ports['api']}",
                                "insecure-skip-tls-verify": True,
                            },
                        }
                    ],
                    "users": [{"name": "test", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                }
            )
        )
        (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
        (folder / "cni").mkdir()
        (folder / "cni/weightd.conflist").write_text(json.dumps(NETWORK))
        (folder / "kubelet.yaml").write_text(json.dumps(self._kubelet()))

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self._ports["kubelet"],
            "readOnlyPort": 0,
            "healthzPort": self._ports["health"],
            "oomScoreAdj": 0,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi"},
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "syncFrequency": "5s",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            "volumePluginDir": f"{self.folder}/volume-plugins",
        }

    def _start_control_plane(self) -> None:
        folder, ports = self.folder, self._ports
        etcd, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
        self._start(
            "etcd",
            "etcd",
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        self._start(
            "apiserver",
            str(KUBERNETES / "bin/kube-apiserver"),
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports['api']}",
            f"--cert-dir={folder}/certs",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default",
            f"--service-account-key-file={folder}/sa.key",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=Hostname",
        )
        self.until(
            lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "the API server is ready"
        )
        for name, port, more in (
            (
                "controller-manager",
                ports["controllers"],
                [
                    f"--service-account-private-key-file={folder}/sa.key",
                    "--controllers=daemonset,garbagecollector,namespace,nodelifecycle,persistentvolume-binder",
                ],
            ),
            ("scheduler", ports["scheduler"], []),
        ):
            self._start(
                name,
                str(KUBERNETES / f"bin/kube-{name}"),
                f"--kubeconfig={folder}/kubeconfig",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                # The other port would be on every address.
                "--port=0",
                f"--cert-dir={folder}/certs",
                *more,
            )

    def _start_node(self, archives: list[pathlib.Path]) -> None:
        folder = self.folder
        self._start("containerd", "containerd", "-c", str(folder / "containerd.toml"))
        ctr = ["ctr", f"--address={folder}/containerd.sock", "--namespace=k8s.io"]
        self.until(
            lambda: subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0,
            "containerd serves",
        )
        for archive in archives:
            subprocess.run([*ctr, "images", "import", archive], capture_output=True, check=True, timeout=PATIENCE)
            archive.unlink()
        for tag in self._tags[1:]:
            names = (f"localhost/weightd:{name}" for name in (self._tags[0], tag))
            subprocess.run([*ctr, "images", "tag", *names], capture_output=True, check=True)
        self._start(
            "kubelet",
            str(KUBERNETES / "bin/kubelet"),
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={folder}/kubeconfig",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/kubelet/pki",
            # A name that resolves, or logs and exec fail.
            "--hostname-override=localhost",
            "--node-labels=nvidia.com/gpu.present=true",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{folder}/containerd.sock",
        )
        self.until(self._node_is_ready, "the node is ready")

    def _node_is_ready(self) -> bool:
        nodes = self.get("nodes")["items"]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            for condition in node["status"].get("conditions", [])
        )


def _make_images(folder: pathlib.Path, tag: str) -> list[pathlib.Path]:
    """Archives of localhost/pause:1 and of localhost/weightd with that tag."""
    with Engine() as engine:
        images = {
            "pause": engine.build(_pause(folder / "pause"), "pause:1"),
            "weightd": engine.build(weightd_context(folder / "weightd"), f"weightd:{tag}"),
        }
        archives = [engine.save(image, folder / f"{name}.tar") for name, image in images.items()]
    shutil.rmtree(folder / "weightd")
    return archives


def _pause(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    subprocess.run(["clang-19", "-static", "-O2", "-o", folder / "pause", HERE / "pause.c"], check=True)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    return folder
