"""Machines of a test's own: network namespaces on one bridge, which sees nothing of the host's networks."""

import os
import pathlib
import shutil
import subprocess
import types

# For tests only, inside the namespaces (RFC 2544's benchmarking range).
NETWORK = "198.18.77"
TOOL = shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "ip"


def _ip(*arguments: str) -> None:
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """A bridge in a namespace of its own, and machines on it. A context manager: at the end all of it is gone."""

    def __init__(self) -> None:
        self._prefix = f"weightd-{os.getpid()}-"
        self._hub = self._prefix + "hub"
        self._machines: list[str] = []

    def __enter__(self) -> "Network":
        try:
            _ip("netns", "add", self._hub)
            _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "bridge", "up")
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        for name in [*(self._prefix + machine for machine in self._machines), self._hub]:
            subprocess.run([TOOL, "netns", "del", name], capture_output=True, timeout=30, check=False)

    def add(self, machine: str) -> str:
        """A machine; its address."""
        name = self._prefix + machine
        self._machines.append(machine)
        address = f"{NETWORK}.{len(self._machines)}"
        port = f"port{len(self._machines)}"
        _ip("netns", "add", name)
        _ip("-n", self._hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self._hub, "link", "set", port, "master", "bridge", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        return address

    def on(self, machine: str) -> tuple[str, ...]:
        """What goes before a command that runs there."""
        return (TOOL, "netns", "exec", self._prefix + machine)


def why_not() -> str:
    """Why no such network can be made here; empty if it can."""
    if not pathlib.Path(TOOL).exists():
        return "iproute2 is not installed"
    try:
        with Network() as network:
            network.add("probe")
    except OSError as error:
        return f"network namespaces are not permitted here: {error}"
    return ""
