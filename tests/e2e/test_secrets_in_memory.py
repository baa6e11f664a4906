"""What a core of the daemon would hold while it decrypts a model: everything but the secret."""

import os
import pathlib
import re
import resource
import signal
import subprocess
import typing

import pytest
import weightd
from gate import Gate
from models import even_model, expected
from processes import Daemon, Nginx, binary

pytestmark = pytest.mark.plain_only  # sanitizers map terabytes

SIZE = 16 << 20
MIDDLE = 5 << 20
STEP = 16 << 20


def mappings(pid: int) -> typing.Iterator[tuple[int, int, bool]]:
    """Begin and end of what has pages, and whether a core has it (proc(5), smaps: dd is MADV_DONTDUMP)."""
    begin, end, resident = 0, 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(number, 16) for number in match.groups())
        elif line.startswith("Rss:"):
            resident = int(line.split()[1]) > 0
        elif line.startswith("VmFlags:") and resident:
            yield begin, end, " dd" not in line


def places(pid: int, secret: bytes) -> list[bool]:
    """Of each place of the secret in a process's memory, whether a core would show it."""
    found: list[bool] = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for begin, end, dumped in mappings(pid):
            rest = b""
            for at in range(begin, end, STEP):
                try:
                    chunk = rest + os.pread(memory.fileno(), min(STEP, end - at), at)
                except (OSError, OverflowError):
                    break  # not readable, nor in a core: [vvar], [vsyscall]
                found += [dumped] * chunk.count(secret)
                rest = chunk[1 - len(secret) :]
    return found


@pytest.mark.parametrize("way", ["key", "password"])
def test_only_memory_that_no_core_has_holds_a_secret(
    way: str, daemons: typing.Callable[..., Daemon], web: Nginx, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may look into the daemon's memory")
    secret = os.urandom(16).hex().encode()  # 32 bytes: a key, and a password
    (tmp_path / "secret").write_bytes(secret)
    plain = even_model(tmp_path / "plain.safetensors", SIZE, 4)
    convert = [binary("client/cli/weightctl"), "convert", str(plain), str(files / "m.tensors")]
    subprocess.run([*convert, "--encrypt", f"{way}-file={tmp_path}/secret"], check=True)
    (files / "m.tensors").chmod(0o644)
    daemon = daemons(f"keys:\n  - {{models: ['**'], {way}_file: {tmp_path}/secret}}\n")
    gate = Gate(f"127.0.0.1:{web.port}")
    during: list[bool] = []
    gate.at(MIDDLE, lambda: during.extend(places(daemon.pid, secret)))
    url = f"http://{gate.address}/m.tensors"
    with weightd.attach(url, socket_dir=str(daemon.socket_dir), framework="np", timeout=60) as model:
        assert {name: bytes(model.raw(name)) for name in model} == expected(plain)
    gate.end()
    assert during, "the load has its secret somewhere"
    assert not any(during)
    assert places(daemon.pid, secret) == []  # wiped

    # And there is no core to begin with.
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(daemon.pid, resource.RLIMIT_CORE, unlimited)
    os.kill(daemon.pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None and ended.si_code == os.CLD_KILLED  # not CLD_DUMPED
    assert daemon.process is not None
    daemon.process.wait()
    daemon.process = None  # ended as it should
