"""The real daemon, the real CLI and a real web server, as processes that tests start and end."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / os.environ.get("WEIGHTD_BUILD", "opt")
INSTRUMENTED = os.environ.get("WEIGHTD_BUILD", "opt") != "opt"
# As .bazelrc sets them for unit tests.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1")
# How long anything may take before a test gives up. Instrumented binaries are slower.
PATIENCE = 60.0 if INSTRUMENTED else 20.0


def binary(label: str) -> str:
    """Path of a built program, such as "daemon/weightd"."""
    return str(BUILD / label)


def wait_until(condition: typing.Callable[[], typing.Any], what: str, timeout: float = PATIENCE) -> typing.Any:
    """Asks again and again until `condition` gives something true; fails with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.005)


class Daemon:
    """weightd in a folder of its own."""

    def __init__(
        self,
        folder: pathlib.Path,
        config: str | None = None,
        arguments: tuple[str, ...] = (),
        socket_dir: pathlib.Path | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        """`before` goes before the command: what runs it somewhere else."""
        self._before = before
        # Of another build, if it is to be one.
        self.program = binary("daemon/weightd")
        self.socket_dir = socket_dir or folder / "run"
        self.log_path = folder / "weightd.log"
        self._arguments = ["--socket-dir", str(self.socket_dir), *arguments]
        if config is not None:
            (folder / "weightd.yaml").write_text(config)
            self._arguments += ["--config", str(folder / "weightd.yaml")]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> "Daemon":
        """Starts the daemon and waits until it serves."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._before, self.program, *self._arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if wait:
            wait_until(self.serves, "the daemon serves")
        return self

    def serves(self) -> bool:
        """Whether it takes connections."""
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended: {self.log()[-2000:]}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket_dir / "admin.sock")) == 0

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Whatever state it is in; a crash fails the test."""
        if self.process is None:
            return
        if self.process.poll() is None:
            assert self.stop() == 0, self.log()[-3000:]
        assert self.process.returncode in (0, -signal.SIGKILL), self.log()[-3000:]

    def log(self) -> str:
        """Everything it has printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self.process is not None
        return self.process.pid

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> dict[str, int]:
        """VmRSS, RssShmem, RssAnon, VmHWM, … of /proc/PID/status in bytes."""
        lines = pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}

    def ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs weightctl on this daemon."""
        done = subprocess.run(
            [binary("client/cli/weightctl"), "--socket-dir", str(self.socket_dir), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr + done.stdout
        return done

    def ctl_json(self, *arguments: str) -> typing.Any:
        """Runs weightctl and parses what it prints."""
        return json.loads(self.ctl(*arguments, "--output", "json").stdout)

    def status(self) -> typing.Any:
        """`weightctl status`."""
        return self.ctl_json("status")


class Nginx:
    """A web server for the files of one folder, on loopback."""

    def __init__(self, folder: pathlib.Path, files: pathlib.Path, extra: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "access.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(f"""
{user} daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {self.log_path}; sendfile on; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{self.port}; root {files}; {extra} }}
}}
""")
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
        self._process = subprocess.Popen(
            [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, "nginx listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, name: str) -> str:
        """Where a file of the folder is served."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def requests(self, name: str) -> list[str]:
        """The access log's lines for one file."""
        if not self.log_path.exists():
            return []
        return [line for line in self.log_path.read_text().splitlines() if f"/{name} " in line]

    def end(self) -> None:
        """Stops the server."""
        self._process.terminate()
        self._process.wait(PATIENCE)


@contextlib.contextmanager
def shaped_server(path: pathlib.Path, milliseconds: int, megabits: int) -> typing.Iterator[int]:
    """Serves one file as if from far away (shaped_server.cc): a round trip of so many milliseconds, so many Mb/s for
    each connection. Gives the port."""
    server = subprocess.Popen(
        [binary("tests/bench/shaped_server"), str(path), str(milliseconds), str(megabits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


def pss_of_segment(pid: int) -> int:
    """Proportional share of all weightd mappings of a process, in bytes (proc(5), smaps)."""
    total = 0
    ours = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
            ours = "/memfd:weightd" in line
        elif ours and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


@contextlib.contextmanager
def ending(processes: list[subprocess.Popen[str]]) -> typing.Iterator[list[subprocess.Popen[str]]]:
    """Kills what is left of these processes at the end of the block."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


class Reader:
    """A client process (reader.py) that obeys commands."""

    def __init__(self, socket_dir: pathlib.Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("reader.py")), str(socket_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, do: str, **arguments: object) -> None:
        """Gives a command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> typing.Any:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the reader ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, do: str, **arguments: object) -> typing.Any:
        """A command and its answer; a failed one fails the test."""
        self.send(do, **arguments)
        answer = self.answer()
        assert "error" not in answer, answer
        return answer

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Lets it exit by itself."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait(PATIENCE) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()
