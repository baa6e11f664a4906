"""OCI containers for tests: images by buildah, containers by podman and runc, isolated as a careful cluster's pods are.

    with oci.Engine() as engine:
        image = engine.build(context, "weightd")          # FROM debian:bookworm-slim, as in Docker's library
        daemon = engine.start(image, "weightd", mounts=[f"{folder}:/run/weightd"])
        assert engine.run(image, "weightctl", "ls", mounts=[f"{folder}:/run/weightd"]).returncode == 0
        daemon.kill()

What an engine makes lies in one folder below /tmp and goes with it; what killed runs left is removed by the next. As a
program this says why containers can't run here, if they can't.
"""

import dataclasses
import fcntl
import functools
import itertools
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import typing

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from base_images import alone, base_image, store  # noqa: E402

TOOLS = ("mmdebstrap", "buildah", "podman", "skopeo", "runc")
# How long anything may take before a test gives up.
PATIENCE = 120.0
# podman wants its folders' names short.
_PLACE = pathlib.Path("/tmp")
_PREFIX = "weightd-oci-"
# Runtimes ask for more than a machine may give where nothing is said; these are at most what this process has.
_ULIMITS = {
    "nofile": (resource.RLIMIT_NOFILE, 4096),
    "nproc": (resource.RLIMIT_NPROC, 1024),
    "memlock": (resource.RLIMIT_MEMLOCK, 8 << 20),
}


@dataclasses.dataclass(frozen=True)
class Isolation:
    """What a container may do. The default is what a pod gets that is given nothing."""

    user: int = 65532
    """User and group inside."""
    first_uid: int = 0
    """The user outside that is the container's user 0, in a user namespace of its own; 0: there is none."""
    memory: str = "256m"
    capabilities: tuple[str, ...] = ()
    seccomp: str = "/usr/share/containers/seccomp.json"
    """A profile's file, or "unconfined"."""
    network: str = "none"
    """ "none", or "container:NAME" to be in that one's network."""
    read_only: bool = True

    def arguments(self) -> list[str]:
        """For podman."""
        mapping = f"0:{self.first_uid}:65536"
        return [
            f"--user={self.user}:{self.user}",
            *([f"--uidmap={mapping}", f"--gidmap={mapping}"] if self.first_uid else []),
            f"--memory={self.memory}",
            "--cap-drop=ALL",
            *(f"--cap-add={capability}" for capability in self.capabilities),
            "--security-opt=no-new-privileges",
            f"--security-opt=seccomp={self.seccomp}",
            f"--network={self.network}",
            f"--read-only={str(self.read_only).lower()}",
            "--read-only-tmpfs=false",
        ]


POD = Isolation()


class Setup(typing.TypedDict, total=False):
    """What a container is given."""

    isolation: Isolation  # POD by default
    mounts: typing.Sequence[str]  # "OUTSIDE:INSIDE", with ":ro" if it may not write there
    entrypoint: str


class Container:
    """A container that was started. With a `process` its standard input and output are that one's."""

    def __init__(self, engine: "Engine", name: str, process: "subprocess.Popen[str] | None" = None) -> None:
        self._engine = engine
        self.name = name
        self.process = process

    def exec(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, isolated as it is."""
        return self._engine.podman("exec", self.name, *command, check=check)

    def logs(self) -> str:
        """Everything it has printed."""
        done = self._engine.podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def kill(self, signal: str = "KILL") -> None:
        """Sends its first process a signal."""
        self._engine.podman("kill", "--signal", signal, self.name)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return int(self._engine.podman("wait", self.name).stdout)

    def restart(self) -> None:
        """Starts it again, after it ended."""
        self._engine.podman("start", self.name)

    def remove(self) -> None:
        """Whatever state it is in."""
        self._engine.remove([self])

    def state(self) -> dict[str, typing.Any]:
        """What podman knows of it: Running, Pid, ExitCode, OOMKilled, …"""
        state = json.loads(self._engine.podman("inspect", "--format", "{{json .State}}", self.name).stdout)
        return typing.cast(dict[str, typing.Any], state)

    @property
    def pid(self) -> int:
        """Its first process as the machine sees it."""
        return int(self.state()["Pid"])


class Engine:
    """Images and containers, in a folder of their own. A context manager; all of it goes at the end."""

    def __init__(self) -> None:
        with alone("engines"):
            _remove_leftovers()
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
            self._lock = (self.folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder.chmod(0o711)
        _configure(self.folder)
        self._numbers = itertools.count()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all containers and removes everything."""
        if self.folder.exists():
            _remove(self.folder)
        self._lock.close()

    def build(
        self,
        context: pathlib.Path,
        tag: str,
        dockerfile: pathlib.Path | None = None,
        arguments: typing.Sequence[str] = (),
    ) -> str:
        """Builds an image, of base images that `base_image` has made, and gives its name. `arguments` are buildah's."""
        name = f"localhost/{tag}"
        command = ["bud", "--quiet", "--isolation", "chroot", "--pull-never", "--tag", name, *arguments]
        command += ["--file", str(dockerfile.absolute())] if dockerfile else []
        self._call("buildah", *command, str(context.absolute()), timeout=10 * PATIENCE)
        return name

    def save(self, image: str, archive: pathlib.Path) -> pathlib.Path:
        """Writes an image as `docker save` does, which other engines load."""
        self.podman("save", "--format", "docker-archive", "--output", str(archive.absolute()), image)
        return archive

    def run(
        self,
        image: str,
        *command: str,
        check: bool = False,
        **setup: typing.Unpack[Setup],
    ) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end."""
        options = _options(**setup)
        return self.podman("run", "--rm", "--name", self._name(), *options, image, *command, check=check)

    def start(self, image: str, *command: str, **setup: typing.Unpack[Setup]) -> Container:
        """Starts a container; what it prints is in its `logs`."""
        name = self._name()
        options = _options(**setup)
        self.podman("run", "--detach", "--name", name, *options, image, *command)
        return Container(self, name)

    def talk(self, image: str, *command: str, **setup: typing.Unpack[Setup]) -> Container:
        """Starts a container whose standard input and output are pipes of its `process`."""
        name = self._name()
        options = _options(**setup)
        process = subprocess.Popen(
            ["podman", *_storage(self.folder), "run", "--interactive", "--name", name, *options, image, *command],
            env=_environment(self.folder),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return Container(self, name, process)

    def remove(self, containers: typing.Sequence[Container]) -> None:
        """Ends and removes containers, whatever state they are in."""
        self.podman(
            "rm", "--force", "--ignore", "--time", "0", *(container.name for container in containers), check=False
        )
        for container in containers:
            if container.process is not None:
                container.process.communicate(timeout=PATIENCE)

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Any podman command."""
        return self._call("podman", *arguments, check=check)

    def talk_to(self, container: str, *command: str) -> "subprocess.Popen[str]":
        """Starts a command in a container; its standard output and error are pipes."""
        return subprocess.Popen(
            ["podman", *_storage(self.folder), "exec", container, *command],
            env=_environment(self.folder),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _call(
        self, program: str, *arguments: str, check: bool = True, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *_storage(self.folder), *arguments],
            env=_environment(self.folder),
            cwd=self.folder,  # where the runtime's monitor notes that a container ran out of memory
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{program} {arguments[0]} failed: {done.stderr[-3000:]}{done.stdout[-1000:]}"
        return done

    def _name(self) -> str:
        return f"{self.folder.name}-{next(self._numbers)}"


@functools.cache
def why_not() -> str:
    """Why containers can't run here, in one line; empty if they can."""
    if os.getuid() != 0:
        return "containers can't run here: that needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if missing:
        return f"containers can't run here: {', '.join(missing)} not installed (deploy/install_deps.sh does that)"
    with Engine() as engine:
        root = _smallest_root(engine.folder / "trial")
        isolation = Isolation(first_uid=200000).arguments()
        done = engine.podman("run", "--rm", *isolation, "--rootfs", str(root), "/bin/true", check=False)
        if done.returncode != 0:
            return f"containers can't run here: runc refuses: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    return ""


def libraries(*programs: str) -> list[pathlib.Path]:
    """The shared libraries that programs need, the loader included, where this machine has them."""
    found = set()
    for program in programs:
        text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        found |= {word for line in text.splitlines() for word in line.split() if word.startswith("/")}
    return [pathlib.Path(path) for path in sorted(found)]


def _options(**setup: typing.Unpack[Setup]) -> list[str]:
    options = setup.get("isolation", POD).arguments()
    options += [f"--volume={mount}" for mount in setup.get("mounts", ())]
    return options + ([f"--entrypoint={setup['entrypoint']}"] if "entrypoint" in setup else [])


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _environment(folder: pathlib.Path) -> dict[str, str]:
    return {**os.environ, "PATH": _path(), "CONTAINERS_CONF": str(folder / "containers.conf")}


def _configure(folder: pathlib.Path) -> None:
    ulimits = []
    for name, (limit, wanted) in _ULIMITS.items():
        hard = resource.getrlimit(limit)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        ulimits.append(f"{name}={value}:{value}")
    (folder / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n"
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\n'
        f'tmp_dir = "{folder}/tmp"\n'
    )


def _storage(folder: pathlib.Path) -> list[str]:
    """Flags of podman and buildah; what podman leaves behind to clean up is told of flags, not of configuration."""
    place = ["--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "overlay"]
    return [*place, "--storage-opt", f"overlay.imagestore={store()}"]


def _smallest_root(root: pathlib.Path) -> pathlib.Path:
    """A root file system with nothing but `true`."""
    for path in [pathlib.Path("/bin/true"), *libraries("/bin/true")]:
        place = root / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for name in ("dev", "etc", "proc", "run", "sys"):
        (root / name).mkdir()
        (root / name).chmod(0o777)  # for the runtime's own files: in a user namespace it is not root out here
    return root


def _remove_leftovers() -> None:
    for folder in _PLACE.glob(_PREFIX + "*"):
        if not (folder / "lock").exists() or folder.stat().st_uid != os.getuid():
            continue
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # of a run that lives
            _remove(folder)


def _remove(folder: pathlib.Path) -> None:
    """Ends the containers of an engine's folder and removes it."""
    command = ["podman", *_storage(folder), "rm", "--all", "--force", "--time", "0"]
    subprocess.run(command, env=_environment(folder), capture_output=True, timeout=PATIENCE, check=False)
    mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([path for path in mounts if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    shutil.rmtree(folder)


__all__ = ["PATIENCE", "POD", "Container", "Engine", "Isolation", "base_image", "libraries", "why_not"]

if __name__ == "__main__":
    print(why_not())
