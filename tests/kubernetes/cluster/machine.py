"""What a kubelet and a container runtime change on the machine, so that it can be put back."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)
HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
# Made by the kubelet, the runtime and network plugins, whatever they are told.
FOLDERS = ("/var/log/pods", "/var/log/containers", "/var/lib/cni", "/run/containerd", "/run/netns", "/var/lib/kubelet")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
PATIENCE = 30.0


class Machine:
    """The machine as it was when this was made. `restore` takes away what came since, of pods or below `folder`."""

    def __init__(self, folder: pathlib.Path, link: str) -> None:
        self._folder = folder
        self._link = link
        self._settings = {pathlib.Path("/proc/sys") / name: _read(pathlib.Path("/proc/sys") / name) for name in SYSCTLS}
        if HUGE_PAGES.exists():
            self._settings[HUGE_PAGES] = _read(HUGE_PAGES).partition("[")[2].partition("]")[0]
        self._before = {path: _entries(path) for path in map(pathlib.Path, FOLDERS)}
        self._cgroups = _pod_cgroups()

    def restore(self) -> None:
        """Leaves nothing of ours; tries each thing whatever became of the others."""
        self._end_processes()
        self._unmount()
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
        for cgroup in sorted(_pod_cgroups() - self._cgroups, key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):
                cgroup.rmdir()
        for folder, before in self._before.items():
            for name in (_entries(folder) or set()) - (before or set()):
                _remove(folder / name)
            if before is None:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        for path, value in self._settings.items():
            if path.exists() and _read(path) != value:
                path.write_text(value)

    def _end_processes(self) -> None:
        """The runtime's shims, which outlive it and name its folder, and the containers, which are their children."""
        end = time.monotonic() + PATIENCE
        while (ours := _with_descendants(_processes_naming(f"{self._folder}/"))) and time.monotonic() < end:
            for process in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def _unmount(self) -> None:
        mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        new_namespaces = (_entries(pathlib.Path("/run/netns")) or set()) - (
            self._before[pathlib.Path("/run/netns")] or set()
        )
        ours = [path for path in mounts if path.startswith(f"{self._folder}/")]
        ours += [
            path for path in mounts if path.startswith("/run/netns/") and path.rpartition("/")[2] in new_namespaces
        ]
        for path in reversed(ours):
            subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def memory_of_no_pod() -> int:
    """Bytes that are charged to Kubernetes' pods together and to none of them: they have outlived theirs."""
    (pods,) = [*CGROUPS.glob("kubepods"), *CGROUPS.glob("memory/kubepods")]
    return _charged(pods) - sum(map(_charged, pods.glob("**/pod*")))


def _charged(cgroup: pathlib.Path) -> int:
    """0 if it is gone."""
    for file in [*cgroup.glob("memory.current"), *cgroup.glob("memory.usage_in_bytes")]:
        with contextlib.suppress(OSError):
            return int(file.read_text())
    return 0


def _read(path: pathlib.Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _entries(folder: pathlib.Path) -> set[str] | None:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else None


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _pod_cgroups() -> set[pathlib.Path]:
    """Every cgroup of Kubernetes' pods, in each hierarchy."""
    return {folder for top in CGROUPS.glob("**/kubepods") for folder in [top, *top.glob("**/")] if folder.is_dir()}


def _processes_naming(text: str) -> set[int]:
    """Processes with `text` among their arguments, but this one."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.add(int(process.name))
    return found


def _with_descendants(processes: set[int]) -> set[int]:
    """These processes, their children, and so on."""
    parents = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            parents[int(process.name)] = int(fields[1])
    found = set(processes)
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found
