"""Operators' calls that no command of weightctl makes, or that a test makes too often for a process each."""

import pathlib
import types
import typing

import grpc
from weightd.v1 import admin_pb2

State = admin_pb2.ConfiguredModel.State


class Admin:
    """One connection to a daemon's admin.sock. A context manager."""

    def __init__(self, socket_dir: pathlib.Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket_dir}/admin.sock")

    def _call(self, method: str, request: typing.Any, response: typing.Any) -> typing.Any:
        call = self._channel.unary_unary(
            f"/weightd.v1.Admin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=30)

    def reload(self) -> admin_pb2.ReloadConfigResponse:
        """Has the config file read again."""
        return self._call("ReloadConfig", admin_pb2.ReloadConfigRequest(), admin_pb2.ReloadConfigResponse)

    def refused_reload(self) -> grpc.RpcError:
        """The same, and how it fails."""
        try:
            answer = self.reload()
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"the config was taken: {answer}")

    def configured(self) -> dict[str, admin_pb2.ConfiguredModel]:
        """The config's models, by name."""
        answer = self._call(
            "ListConfiguredModels", admin_pb2.ListConfiguredModelsRequest(), admin_pb2.ListConfiguredModelsResponse
        )
        return {model.name: model for model in answer.models}

    def states(self) -> dict[str, str]:
        """How far their promises are kept."""
        return {name: State.Name(model.state) for name, model in self.configured().items()}

    def __enter__(self) -> "Admin":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._channel.close()
