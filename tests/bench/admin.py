"""Admin RPCs over one kept connection: a benchmark measures the daemon, not the start of a command."""

import pathlib
import time

import grpc
import measure
from processes import Daemon
from weightd.v1 import admin_pb2


class AdminCalls:
    """The calls that benchmarks need."""

    def __init__(self, socket_dir: pathlib.Path) -> None:
        channel = grpc.insecure_channel(f"unix:{socket_dir}/admin.sock")
        self._preload = channel.unary_stream(
            "/weightd.v1.Admin/Preload",
            admin_pb2.PreloadRequest.SerializeToString,
            admin_pb2.PreloadResponse.FromString,
        )
        self._status = channel.unary_unary(
            "/weightd.v1.Admin/GetStatus",
            admin_pb2.GetStatusRequest.SerializeToString,
            admin_pb2.GetStatusResponse.FromString,
        )
        self._evict = channel.unary_unary(
            "/weightd.v1.Admin/Evict",
            admin_pb2.EvictRequest.SerializeToString,
            admin_pb2.EvictResponse.FromString,
        )

    def preload(self, model: str) -> None:
        """Loads a model and waits until it is resident."""
        for _ in self._preload(admin_pb2.PreloadRequest(model=model), timeout=600):
            pass

    def await_ready(self) -> None:
        """Waits until no more memory is made ready (host.ready): all of it is there, or there is none."""
        ready, before = self._status(admin_pb2.GetStatusRequest(), timeout=60).host.ready, -1
        while ready != before:
            time.sleep(0.5)
            ready, before = self._status(admin_pb2.GetStatusRequest(), timeout=60).host.ready, ready

    def evict(self, model: str) -> None:
        """Drops it."""
        self._evict(admin_pb2.EvictRequest(model=model), timeout=60)


def cold_load(daemon: Daemon, admin: AdminCalls, model: str) -> measure.Sample:
    """Wall seconds of one load, and the daemon's CPU seconds; the model is gone afterwards."""
    cpu, begin = measure.cpu_of(daemon.pid), time.monotonic()
    admin.preload(model)
    sample = measure.Sample(time.monotonic() - begin, measure.cpu_of(daemon.pid) - cpu)
    admin.evict(model)
    return sample
