"""The protocol spoken by hand, for what a well-behaved client never does."""

import array
import os
import pathlib
import socket
import typing

import grpc
from weightd.v1 import handles_pb2, weights_pb2


class RawSession:
    """One connection on the handle channel and the gRPC calls that go with it."""

    def __init__(self, socket_dir: pathlib.Path, token: str | None = None) -> None:
        self.socket_dir = socket_dir
        self.channel_socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel_socket.connect(str(socket_dir / "handles.sock"))
        self.channel_socket.settimeout(20)
        reply = handles_pb2.HandleReply()
        reply.ParseFromString(self.channel_socket.recv(65536))
        self.token = token or reply.hello.session_token
        self._grpc = grpc.insecure_channel(
            f"unix:{socket_dir}/weightd.sock", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def call(self, method: str, request: typing.Any, answer: typing.Any) -> typing.Any:
        """One unary Weights RPC."""
        rpc = self._grpc.unary_unary(
            f"/weightd.v1.Weights/{method}", type(request).SerializeToString, answer.FromString
        )
        return rpc(request, timeout=20, metadata=[("weightd-session", self.token)])

    def acquire(self, model: str, **fields: typing.Any) -> int:
        """The lease that an Acquire grants."""
        rpc = self._grpc.unary_stream(
            "/weightd.v1.Weights/Acquire",
            weights_pb2.AcquireRequest.SerializeToString,
            weights_pb2.AcquireResponse.FromString,
        )
        request = weights_pb2.AcquireRequest(model=model, **fields)
        for response in rpc(request, timeout=60, metadata=[("weightd-session", self.token)]):
            if response.HasField("grant"):
                return response.grant.lease_id
        raise AssertionError("no grant")

    def send_claim(self, lease: int) -> None:
        """Asks for descriptors without reading the answer."""
        request = handles_pb2.HandleRequest(claim=handles_pb2.Claim(lease_id=lease))
        self.channel_socket.send(request.SerializeToString())

    def receive(self) -> tuple[typing.Any, list[int]]:
        """The next message of the handle channel, and its descriptors."""
        data, ancillary, _, _ = self.channel_socket.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
        fds: list[int] = []
        for _, kind, payload in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds += array.array("i", payload[: len(payload) // 4 * 4]).tolist()
        reply = handles_pb2.HandleReply()
        reply.ParseFromString(data)
        return reply, fds

    def claim(self, lease: int) -> list[int]:
        """The descriptors of a lease: the segment's and the index'."""
        self.send_claim(lease)
        reply, fds = self.receive()
        assert reply.HasField("handles"), reply
        return fds

    def close(self) -> None:
        """Ends the session."""
        self._grpc.close()
        self.channel_socket.close()


def close_all(fds: list[int]) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)
