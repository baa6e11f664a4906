"""What becomes of clients when the daemon was away for a moment."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import weightd
from weightd import _restart
from weightd._acquire import acquire
from weightd._deadline import Deadline
from weightd._session import Session
from weightd.v1 import error_pb2, handles_pb2, weights_pb2

from fake_daemon import FakeDaemon, Served, memfd, model


def small() -> Served:
    return model({"a": ("F32", [2, 3], struct.pack("<6f", *range(6)))}, format="pt")


@pytest.fixture
def kept() -> Iterator[Served]:
    """A model whose segment is one file, whoever serves it."""
    served = small()
    descriptor = memfd(served.segment)

    def replace(handles: handles_pb2.Handles, descriptors: list[int]) -> None:
        (place,) = (i for i, handle in enumerate(handles.handles) if handle.kind == handles_pb2.Handle.HOST_SEGMENT)
        os.close(descriptors[place])
        descriptors[place] = os.dup(descriptor)

    served.change_handles = replace
    yield served
    os.close(descriptor)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[dict[str, Served]], FakeDaemon]]:
    """Starts a daemon in the one folder, in the place of what was there."""
    running: list[FakeDaemon] = []

    def begin(models: dict[str, Served]) -> FakeDaemon:
        kill()
        for name in ("handles.sock", "weightd.sock"):
            (tmp_path / name).unlink(missing_ok=True)
        running.append(FakeDaemon(tmp_path, models))
        return running[-1]

    def kill() -> None:
        for daemon in running:
            daemon.close()

    yield begin
    kill()


def test_an_attach_waits_for_the_next_daemon(
    start: Callable[..., FakeDaemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.bind(str(tmp_path / "handles.sock"))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            start({"m": small()})

    monkeypatch.setattr(_restart.time, "sleep", wait)
    assert list(weightd.attach("m", socket_dir=tmp_path)) == ["a"]
    assert waits == [0.02, 0.04, 0.08]


def test_the_first_attach_waits_for_the_next_daemon_when_this_one_stops(
    start: Callable[..., FakeDaemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its sockets along, and what they were for is not there yet."""
    stopping = small()

    def stop(context: grpc.ServicerContext) -> None:
        for name in ("handles.sock", "weightd.sock"):
            (tmp_path / name).unlink()
        detail = error_pb2.ErrorDetail(reason=error_pb2.SHUTTING_DOWN, message="the daemon is shutting down")
        context.set_trailing_metadata((("weightd-error-bin", detail.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, detail.message)

    stopping.at_start = stop
    start({"m": stopping})
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            start({"m": small()})

    monkeypatch.setattr(_restart.time, "sleep", wait)
    assert list(weightd.attach("m", socket_dir=tmp_path)) == ["a"]
    assert len(waits) == 3


def test_an_attach_waits_where_a_daemon_has_ended(
    start: Callable[..., FakeDaemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weightd.lock").touch()  # what it leaves
    monkeypatch.setattr(_restart.time, "sleep", lambda _: start({"m": small()}))
    assert list(weightd.attach("m", socket_dir=tmp_path)) == ["a"]


def test_where_no_daemon_was_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restart.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(weightd.UnavailableError, match="no daemon at"):
        weightd.attach("m", socket_dir=tmp_path)


def test_waiting_ends(start: Callable[..., FakeDaemon], monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = start({"m": small()})
    held = weightd.attach("m", socket_dir=daemon.directory)
    daemon.close()
    with pytest.raises(weightd.UnavailableError):
        weightd.attach("m", socket_dir=daemon.directory, timeout=0.2)
    monkeypatch.setattr(_restart, "_RESTART_SECONDS", 0.2)
    with pytest.raises(weightd.UnavailableError):
        weightd.attach("m", socket_dir=daemon.directory)
    assert list(held) == ["a"]


def test_an_attach_uses_all_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weightd.lock").touch()
    now, waits = 1000.0, []

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds
        waits.append(seconds)

    monkeypatch.setattr(_restart.time, "sleep", wait)
    monkeypatch.setattr(_restart.time, "monotonic", lambda: now)
    with pytest.raises(weightd.UnavailableError):
        weightd.attach("m", socket_dir=tmp_path, timeout=2)
    assert now == pytest.approx(1001.95), waits


def _fails(reason: error_pb2.ErrorReason) -> Callable[[grpc.ServicerContext], None]:
    def fail(context: grpc.ServicerContext) -> None:
        detail = error_pb2.ErrorDetail(reason=reason, message="no")
        context.set_trailing_metadata((("weightd-error-bin", detail.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, detail.message)

    return fail


@pytest.mark.parametrize("joined", [True, False])
def test_a_load_that_can_only_be_joined_is_waited_for(
    start: Callable[..., FakeDaemon], monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    stopping, refusing = small(), small()
    for served, reason in ((stopping, error_pb2.SHUTTING_DOWN), (refusing, error_pb2.NOT_ALLOWED)):
        served.progress = [weights_pb2.LoadProgress(phase=weights_pb2.TRANSFERRING)] if joined else []
        served.after_progress = _fails(reason)
    directory = start({"m": stopping}).directory
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        start({"m": refusing if len(waits) == 1 else small()})

    monkeypatch.setattr(_restart.time, "sleep", wait)
    if joined:
        assert list(weightd.attach("m", socket_dir=directory)) == ["a"]
        assert len(waits) == 2
    else:
        with pytest.raises(weightd.NotAllowedError):
            weightd.attach("m", socket_dir=directory)
        assert len(waits) == 1


def test_other_failures_are_told_at_once(
    start: Callable[..., FakeDaemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_restart.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(weightd.NotFoundError):
        weightd.attach("x", socket_dir=start({"m": small()}).directory)


def test_the_next_daemon_gives_a_lease_on_what_is_mapped(start: Callable[..., FakeDaemon], kept: Served) -> None:
    first = start({"fake:model": kept, "n": small()})
    held = weightd.attach("fake:model", socket_dir=first.directory)
    address = held["a"].data_ptr()
    second = start({"fake:model": kept, "n": small()})
    other = weightd.attach("n", socket_dir=second.directory)
    second.wait_for_claimed(2)
    assert second.asked.revision == held.revision
    assert second.asked.resident_only
    assert held["a"].data_ptr() == address
    # Once, and for as long as the mapping lives.
    del other
    weightd.attach("n", socket_dir=second.directory).close()
    second.wait_for_claimed(1)
    held.close()
    gc.collect()
    second.wait_for_claimed(0)


def test_nobody_waits_for_a_lease_on_a_gpu(start: Callable[..., FakeDaemon], tmp_path: Path) -> None:
    """The next daemon grants one when a worker has looked at the copy, which may take a while."""
    on_gpu = small()
    on_gpu.device_bytes = 2 << 20
    on_gpu.export = lambda: memfd(b"a copy")
    first = start({"g": on_gpu})
    request = weights_pb2.DeviceRequest(gpu_uuid=bytes(16))
    session = Session(first.directory, Deadline(10))
    acquire(first.directory, session.token, "g", {}, request, Deadline(10), lambda _: None)
    copy = memfd(b"a copy")
    lease = _restart.Lease(session, first.directory, "g", "ab" * 32, copy, request)
    asked, looked_at = threading.Event(), threading.Event()

    def look(_: grpc.ServicerContext) -> None:
        asked.set()
        looked_at.wait(10)

    on_gpu.at_start = look
    start({"g": on_gpu, "n": small()})
    weightd.attach("n", socket_dir=tmp_path).close()
    assert asked.wait(10)
    assert lease.ended(tmp_path)
    looked_at.set()
    lease.close()
    os.close(copy)


def test_another_segment_is_not_what_is_mapped(start: Callable[..., FakeDaemon]) -> None:
    first = start({"fake:model": small(), "n": small()})
    held = weightd.attach("fake:model", socket_dir=first.directory)
    second = start({"fake:model": small(), "n": small()})
    other = weightd.attach("n", socket_dir=second.directory)
    second.wait_for_claimed(1)
    assert bytes(held.raw("a")) == bytes(other.raw("a"))


def test_a_forked_child_leaves_leases_to_its_parent(start: Callable[..., FakeDaemon], kept: Served) -> None:
    first = start({"fake:model": kept})
    held = weightd.attach("fake:model", socket_dir=first.directory)
    second = start({"fake:model": kept})
    if (child := os.fork()) == 0:
        os._exit(len(_restart._leases))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    _restart.renew_leases(second.directory, Deadline(10))
    second.wait_for_claimed(1)
    assert list(held) == ["a"]
