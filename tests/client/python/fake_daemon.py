"""A daemon as the client sees one, in this process: for what the real one never does, such as lying.

Serves models that the test made, on the real sockets and protocol. Not a cache: every model is resident.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from weightd.v1 import error_pb2, handles_pb2, tensor_index_pb2, weights_pb2

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def memfd(content: bytes, seals: int = SEALS) -> int:
    """A file descriptor of a sealed memfd, read-only."""
    writable = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(writable, content)
    fcntl.fcntl(writable, fcntl.F_ADD_SEALS, seals)
    descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(writable)
    return descriptor


@dataclass
class Served:
    """What Acquire and Claim answer for one model."""

    segment: bytes
    index: tensor_index_pb2.TensorIndex
    segment_seals: int = SEALS
    index_seals: int = SEALS
    claimed_bytes: int | None = None  # Handle.nbytes of the segment, if not its size
    progress: list[weights_pb2.LoadProgress] = field(default_factory=list)
    # Called in Acquire, first and before the grant.
    at_start: Callable[[grpc.ServicerContext], object] = lambda _: None
    before_grant: Callable[[], object] = lambda: None
    # After the progress, in place of the grant if it aborts.
    after_progress: Callable[[grpc.ServicerContext], object] = lambda _: None
    claim_error: error_pb2.ErrorDetail | None = None
    # For who asks for a GPU's memory: its size, a new descriptor of it, the legacy handle.
    device_bytes: int = 0
    export: Callable[[], int] | None = None
    legacy_handle: bytes = b""
    # Change the grant and the handles.
    change_grant: Callable[[weights_pb2.Grant], object] = lambda _: None
    change_handles: Callable[[handles_pb2.Handles, list[int]], object] = lambda _, __: None


def model(tensors: dict[str, tuple[str, list[int], bytes]], **metadata: str) -> Served:
    """A well-formed model: name -> dtype, shape, bytes. Each tensor begins at a multiple of 64, of 256 on a GPU."""
    index = tensor_index_pb2.TensorIndex(version=1, revision="ab" * 32, model="fake:model")
    index.metadata.update(metadata)
    segment = bytearray()
    for name in sorted(tensors):
        dtype, shape, content = tensors[name]
        segment += bytes(-len(segment) % 64)
        index.layout.pieces.add(
            name=name,
            dtype=tensor_index_pb2.DType.Value(dtype),
            shape=shape,
            offset=len(segment),
            nbytes=len(content),
            device_offset=index.device_bytes,
        )
        index.device_bytes += -(-len(content) // 256) * 256
        segment += content
    segment += bytes(-len(segment) % 4096)
    index.segment_bytes = len(segment)
    return Served(bytes(segment), index)


class FakeDaemon:
    """Serves `models` in `directory` until closed.

    `leases` are those of sessions that still exist, `asked` is the request that was granted last.
    """

    def __init__(self, directory: Path, models: dict[str, Served]) -> None:
        self.directory = directory
        self.models = models
        self.hello = handles_pb2.Hello(session_token="0" * 32, protocol_version=1)
        self._changed = threading.Condition()
        self._leases: dict[int, str] = {}
        self._next_lease = 1
        self.asked: weights_pb2.AcquireRequest = weights_pb2.AcquireRequest()
        self._connections: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(directory / "handles.sock"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        handler = grpc.unary_stream_rpc_method_handler(
            self._acquire,
            request_deserializer=weights_pb2.AcquireRequest.FromString,
            response_serializer=weights_pb2.AcquireResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("weightd.v1.Weights", {"Acquire": handler})]
        )
        self._server.add_insecure_port(f"unix:{directory}/weightd.sock")
        self._server.start()

    def claimed(self) -> int:
        """Leases that a session claimed and that have not ended."""
        with self._changed:
            return len(self._leases)

    def wait_for_claimed(self, count: int, timeout: float = 10) -> None:
        """Waits until there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._leases) == count, timeout):
                raise AssertionError(f"{len(self._leases)} leases, not {count}")

    def close(self) -> None:
        """May be called again."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # its own thread may have closed it
                connection.shutdown(socket.SHUT_RDWR)
        self._server.stop(0).wait()

    def _acquire(
        self, request: weights_pb2.AcquireRequest, context: grpc.ServicerContext
    ) -> Iterator[weights_pb2.AcquireResponse]:
        metadata: dict[str, Any] = {entry[0]: entry[1] for entry in context.invocation_metadata()}
        assert metadata["weightd-session"] == self.hello.session_token
        served = self.models.get(request.model)
        if served is None:
            detail = error_pb2.ErrorDetail(
                reason=error_pb2.MODEL_NOT_FOUND,
                message="no such model",
                hint="check the name",
                model=request.model,
            )
            context.set_trailing_metadata((("weightd-error-bin", detail.SerializeToString()),))
            context.abort(grpc.StatusCode.NOT_FOUND, detail.message)
        served.at_start(context)
        for progress in served.progress:
            yield weights_pb2.AcquireResponse(progress=progress)
        served.after_progress(context)
        served.before_grant()
        with self._changed:
            lease_id = self._next_lease
            self._next_lease += 1
            self._granted = (lease_id, request.model)
        self.asked = request
        grant = weights_pb2.Grant(lease_id=lease_id)
        if request.HasField("device"):
            asked = request.device
            grant.device.gpu_uuid, grant.device.mode, grant.device.nbytes = (
                asked.gpu_uuid,
                asked.mode,
                served.device_bytes,
            )
            grant.device.legacy_handle = served.legacy_handle if asked.legacy else b""
        served.change_grant(grant)
        yield weights_pb2.AcquireResponse(grant=grant)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        mine: list[int] = []
        with connection:
            connection.send(handles_pb2.HandleReply(hello=self.hello).SerializeToString())
            while packet := connection.recv(65536):
                claim = handles_pb2.HandleRequest.FromString(packet).claim
                mine.append(claim.lease_id)
                self._answer(connection, claim.lease_id)
        self._connections.discard(connection)
        with self._changed:
            for lease_id in mine:
                self._leases.pop(lease_id, None)
            self._changed.notify_all()

    def _answer(self, connection: socket.socket, lease_id: int) -> None:
        served = self.models[self._granted[1]]
        if served.claim_error is not None:
            failed = handles_pb2.ClaimFailed(lease_id=lease_id, error=served.claim_error)
            connection.send(handles_pb2.HandleReply(failed=failed).SerializeToString())
            return
        with self._changed:
            self._leases[lease_id] = self._granted[1]
            self._changed.notify_all()
        index = served.index.SerializeToString()
        handles = handles_pb2.Handles(lease_id=lease_id)
        descriptors = []
        if not self.asked.HasField("device"):
            claimed = len(served.segment) if served.claimed_bytes is None else served.claimed_bytes
            handles.handles.add(kind=handles_pb2.Handle.HOST_SEGMENT, nbytes=claimed)
            descriptors.append(memfd(served.segment, served.segment_seals))
        elif served.export is not None and not self.asked.device.legacy:
            handles.handles.add(kind=handles_pb2.Handle.DEVICE_SEGMENT, nbytes=served.device_bytes)
            descriptors.append(served.export())
        handles.handles.add(kind=handles_pb2.Handle.TENSOR_INDEX, nbytes=len(index))
        descriptors.append(memfd(index, served.index_seals))
        served.change_handles(handles, descriptors)
        reply = handles_pb2.HandleReply(handles=handles).SerializeToString()
        socket.send_fds(connection, [reply], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
