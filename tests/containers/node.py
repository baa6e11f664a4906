"""One node: a daemon in a container, and clients in others, which share the folder of a listener's sockets only."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import threading
import typing

from models import expected
from oci import PATIENCE, POD, Container, Engine, Isolation, base_image, libraries
from processes import ROOT, binary, wait_until

# Programs of the base image that the client needs.
_PACKAGES = ("python3-minimal", "python3-protobuf", "python3-h2")
_PROGRAMS = ("daemon/weightd", "client/cli/weightctl", "tests/e2e/holder", "tests/bench/shaped_server")
# The base image has its own of these.
_OF_THE_BASE = ("ld-linux", "libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "libresolv.so")
_HERE = pathlib.Path(__file__).parent
CONFIG = """
socket_dir: /run/weightd
listeners:
  - name: pods
    directory: /run/weightd/pods
    mode: 0755
    access:
      attach: ["**"]
      load: ["file:///models/**", "http://127.0.0.1:*/**"]
sources:
  file: {roots: [/models]}
"""
MODEL = "/models/m.safetensors"
# User namespaces, one after the other.
_first_uids = itertools.count(1_000_000, 65536)


def own_users(isolation: Isolation = POD) -> Isolation:
    """The same, in a user namespace that no other container has."""
    return dataclasses.replace(isolation, first_uid=next(_first_uids))


def build_image(engine: Engine) -> str:
    """The image of daemon and clients, of the binaries that were built."""
    context = engine.folder / "image"
    for name in ("bin", "lib", "python"):
        (context / name).mkdir(parents=True)
    programs = [binary(name) for name in _PROGRAMS]
    for program in programs:
        shutil.copy(program, context / "bin")
    for library in libraries(*programs):
        if not library.name.startswith(_OF_THE_BASE):
            shutil.copy(library, context / "lib")
    shutil.copytree(ROOT / "client/python/src/weightd", context / "python/weightd")
    shutil.copy(ROOT / "tests/e2e/attacks.py", context / "python")
    shutil.copy(_HERE / "client.py", context / "python")
    base = base_image("bookworm", _PACKAGES)
    return engine.build(context, "weightd-test", _HERE / "Dockerfile", ["--build-arg", f"BASE={base}"])


class Client:
    """A client process (client.py) as its container's first."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.progress: list[tuple[str, int, int]] = []

    def send(self, do: str, **arguments: object) -> None:
        """Gives a command without waiting for its answer."""
        assert self.container.process is not None
        assert self.container.process.stdin is not None
        self.container.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.container.process.stdin.flush()

    def line(self) -> typing.Any:
        """What it says next."""
        process = self.container.process
        assert process is not None
        assert process.stdout is not None
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        assert line, f"the client ended: {self.container.logs()[-2000:]}"
        return json.loads(line)

    def answer(self) -> typing.Any:
        """The next answer; progress before it is kept."""
        while "progress" in (line := self.line()):
            self.progress.append(tuple(line["progress"]))
        return line

    def try_(self, do: str, **arguments: object) -> typing.Any:
        """A command and its answer, whatever it is."""
        self.send(do, **arguments)
        return self.answer()

    def ask(self, do: str, **arguments: object) -> typing.Any:
        """A command and its answer; a failed one fails the test."""
        answer = self.try_(do, **arguments)
        assert "error" not in answer, answer
        return answer


class Node:
    """A daemon that serves /models to clients by its listener "pods"."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        folder: pathlib.Path,
        models: pathlib.Path,
        config: str = CONFIG,
        isolation: Isolation = POD,
    ) -> None:
        self._engine = engine
        self._image = image
        self._models = models
        self._isolation = isolation
        self._others: list[Container] = []
        self.sockets = folder / "run"
        for place in (folder, self.sockets):
            place.mkdir(mode=0o755)
        uid = isolation.first_uid + isolation.user
        os.chown(self.sockets, uid, uid)
        (folder / "weightd.yaml").write_text(config)
        self._config = folder / "weightd.yaml"
        self.daemon = self._start_daemon()

    def _start_daemon(self) -> Container:
        container = self._engine.start(
            self._image,
            *("weightd", "--config", "/etc/weightd.yaml"),
            isolation=self._isolation,
            mounts=[
                f"{self.sockets}:/run/weightd",
                f"{self._models}:/models:ro",
                f"{self._config}:/etc/weightd.yaml:ro",
            ],
        )
        wait_until(lambda: self._serves(container), "the daemon serves", PATIENCE)
        return container

    def _serves(self, container: Container) -> bool:
        if (self.sockets / "admin.sock").exists() and self.ctl("status", check=False).returncode == 0:
            return True
        assert container.state()["Running"], f"the daemon ended: {container.logs()[-3000:]}"
        return False

    def restart(self) -> None:
        """Starts the daemon's container again, after it ended."""
        self.daemon.restart()
        wait_until(lambda: self._serves(self.daemon), "the daemon serves again", PATIENCE)

    def replace(self) -> None:
        """Kills the daemon and starts one in another container, on the same folder."""
        self.daemon.remove()
        self.daemon = self._start_daemon()

    def client(
        self, isolation: Isolation | None = None, sockets: pathlib.Path | None = None, nothing: bool = False
    ) -> Client:
        """A client in a user namespace of its own, unless told otherwise. It may only read the folder of sockets."""
        folder = sockets or self.sockets / "pods"
        container = self._engine.talk(
            self._image,
            *("python3", "/opt/weightd/python/client.py"),
            isolation=isolation or own_users(),
            mounts=[] if nothing else [f"{folder}:/run/weightd:ro"],
        )
        self._others.append(container)
        return Client(container)

    def holder(self) -> Container:
        """A C++ client (holder.cc) of the model, which says a sum over its bytes and holds on."""
        container = self._engine.talk(
            self._image,
            *("holder", "/run/weightd", MODEL),
            isolation=own_users(),
            mounts=[f"{self.sockets}/pods:/run/weightd:ro"],
        )
        self._others.append(container)
        return container

    def server(self, name: str) -> str:
        """Serves one of the models on the daemon's own loopback, from a third container; gives its URL."""
        container = self._engine.talk(
            self._image,
            *("shaped_server", f"/models/{name}", "1", "800"),
            isolation=dataclasses.replace(self._isolation, network=f"container:{self.daemon.name}"),
            mounts=[f"{self._models}:/models:ro"],
        )
        self._others.append(container)
        assert container.process is not None
        assert container.process.stdout is not None
        return f"http://127.0.0.1:{container.process.stdout.readline().strip()}/{name}"

    def ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs weightctl on the node itself, as its operator."""
        command = [binary("client/cli/weightctl"), "--socket-dir", str(self.sockets), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    def status(self) -> typing.Any:
        """`weightctl status`."""
        return json.loads(self.ctl("status", "--output", "json").stdout)

    def doctor(self) -> dict[str, str]:
        """What `weightctl doctor` finds in the daemon's container, by check."""
        done = self.daemon.exec("weightctl", "doctor", "--output", "json", check=False)
        return {check["check"]: check["finding"] for check in json.loads(done.stdout)["checks"]}

    def leases(self) -> int:
        """How many there are."""
        return int(self.status()["leases"])

    def end(self) -> None:
        """Ends clients and daemon; a daemon that crashed fails the test."""
        state = self.daemon.state()
        crashed = not state["Running"] and state["ExitCode"] not in (0, 137)
        logs = self.daemon.logs() if crashed else ""
        self._engine.remove([self.daemon, *self._others])
        assert not crashed, logs[-3000:]


def attached(client: Client, model: str = MODEL) -> Client:
    """The same client, with the model."""
    client.ask("attach", model=model)
    return client


def truth(path: pathlib.Path) -> str:
    """What a client's digest of this file has to be."""
    digest = hashlib.sha256()
    for _, content in sorted(expected(path).items()):
        digest.update(content)
    return digest.hexdigest()


def memory_charged(pid: int) -> int:
    """What the memory cgroup of a process is charged with, of version 1 or 2."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in (f"memory{path}/memory.usage_in_bytes", f"{path.lstrip('/')}/memory.current"):
            file = pathlib.Path("/sys/fs/cgroup") / name
            if controllers in ("memory", "") and file.exists():
                return int(file.read_text())
    raise AssertionError(f"process {pid} is in no memory cgroup")
