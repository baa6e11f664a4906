"""Ends that nobody planned: of clients, of the daemon."""

import fcntl
import os
import pathlib
import random
import subprocess
import typing

import pytest
from models import even_model, small_model
from processes import INSTRUMENTED, PATIENCE, Daemon, Reader, binary, ending, wait_until

Readers = typing.Callable[[Daemon], Reader]
Daemons = typing.Callable[..., Daemon]
MIB = 1 << 20


def test_killed_clients_leave_nothing_behind(daemon: Daemon, files: pathlib.Path) -> None:
    path = even_model(files / "m.safetensors", 8 * MIB, 64)
    daemon.ctl("preload", str(path))

    def hold() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [binary("tests/e2e/holder"), str(daemon.socket_dir), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def attached(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    survivor = hold()
    truth = attached(survivor)
    assert len(truth) == 16
    descriptors = daemon.descriptors()
    for _ in range(20):
        with ending([hold() for _ in range(64)]) as victims:
            assert {attached(victim) for victim in victims} == {truth}
            assert daemon.status()["leases"] == 65
            for victim in victims:
                victim.kill()
            wait_until(
                lambda: daemon.status()["leases"] == 1, "leases of killed clients end", PATIENCE if INSTRUMENTED else 1
            )
    wait_until(lambda: daemon.descriptors() <= descriptors + 2, "descriptors of killed clients close")
    survivor.communicate()
    assert survivor.returncode == 0


def test_clients_killed_at_any_moment(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "m.safetensors")
    chance = random.Random(1)
    for _ in range(8):
        victims = [readers(daemon) for _ in range(2)]
        for victim in victims:
            victim.send("attach", model=str(path))
        wait_until(lambda: chance.random() < 0.2, "a random moment")
        for victim in victims:
            victim.kill()
    wait_until(lambda: daemon.status()["leases"] == 0, "leases of killed clients end", PATIENCE if INSTRUMENTED else 1)
    survivor = readers(daemon)
    survivor.ask("attach", model=str(path))


def test_clients_outlive_the_daemon_and_the_next_one_counts_their_memory(
    daemon: Daemon, files: pathlib.Path, readers: Readers
) -> None:
    path = even_model(files / "m.safetensors", 64 * MIB, 8)
    client = readers(daemon)
    client.ask("attach", model=str(path))
    before = client.ask("digest")
    daemon.kill()
    assert client.ask("digest") == before
    daemon.start()
    assert client.ask("digest") == before
    newcomer = readers(daemon)
    newcomer.ask("attach", model=str(path))
    assert newcomer.ask("digest") == before
    client.end()


def test_a_live_daemon_keeps_its_folder(daemon: Daemon, daemons: Daemons, files: pathlib.Path) -> None:
    second = daemons(socket_dir=daemon.socket_dir, wait=False)
    assert second.process is not None
    assert second.process.wait(PATIENCE) == 75
    second.process = None
    assert "another weightd serves" in second.log()
    daemon.ctl("preload", str(small_model(files / "m.safetensors")))


def test_the_next_daemon_waits_for_a_dying_one(daemon: Daemon, daemons: Daemons, files: pathlib.Path) -> None:
    daemon.kill()
    # The kernel frees a dead process's lock only when its memory is freed: here the test holds it instead.
    with (daemon.socket_dir / "weightd.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = daemons(socket_dir=daemon.socket_dir, wait=False)
        wait_until(lambda: "folder.waiting" in second.log(), "the second daemon says that it waits")
    wait_until(second.serves, "the second daemon serves", timeout=3 if INSTRUMENTED else 1)
    second.ctl("preload", str(small_model(files / "m.safetensors")))


def test_sigterm_ends_at_once_while_clients_wait(daemon: Daemon, files: pathlib.Path, readers: Readers) -> None:
    client = readers(daemon)
    client.ask("attach", model=str(small_model(files / "m.safetensors")))
    assert daemon.stop() == 0
    client.ask("digest")
    assert not (daemon.socket_dir / "weightd.sock").exists()


def memory_group(limit: int) -> pathlib.Path:
    """A memory cgroup of its own, of version 1 or 2; OSError if there can be none."""
    root = pathlib.Path("/sys/fs/cgroup")
    legacy = (root / "memory").is_dir()
    group = (root / "memory" if legacy else root) / f"weightd-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if legacy else "memory.max")).write_text(str(limit))
    except OSError:
        group.rmdir()
        raise
    return group


@pytest.mark.plain_only
def test_orphaned_memory_is_room_that_the_next_daemon_does_not_have(
    daemons: Daemons, files: pathlib.Path, readers: Readers
) -> None:
    try:
        group = memory_group(320 * MIB)
    except OSError as error:
        pytest.skip(f"needs a memory cgroup of its own: {error}")
    first, second = (even_model(files / f"{i}.safetensors", 160 * MIB, 4, seed=i) for i in (1, 2))
    try:
        daemon = daemons("host:\n  budget: 300MiB\n")
        (group / "cgroup.procs").write_text(str(daemon.pid))
        holder = readers(daemon)
        holder.ask("attach", model=f"file://{first}")
        before = holder.ask("digest")
        daemon.kill()
        daemon.start()
        (group / "cgroup.procs").write_text(str(daemon.pid))
        refused = daemon.ctl("preload", str(second), check=False)
        assert refused.returncode == 75, refused.stderr
        assert holder.ask("digest") == before
        holder.kill()
        wait_until(lambda: daemon.ctl("preload", str(second), check=False).returncode == 0, "the room comes back")
        daemon.end()
    finally:
        wait_until(lambda: removed(group), "the cgroup goes")


def removed(group: pathlib.Path) -> bool:
    """Removes a cgroup, once its last process is gone."""
    try:
        group.rmdir()
        return True
    except OSError:
        return False
