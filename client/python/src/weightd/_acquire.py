"""The one call that an attach makes, and what its status means."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from weightd._deadline import Deadline
from weightd._grpc import MAX_REQUEST, Call, CallFailed
from weightd._session import from_detail
from weightd.errors import Error, error
from weightd.v1 import error_pb2, weights_pb2

_CANCELLED, _DEADLINE_EXCEEDED, _UNAVAILABLE = 1, 4, 14
# The longest name that is sent; the daemon takes no longer ones either.
_MAX_MODEL = 8192


def acquire(
    directory: Path,
    token: str,
    model: str,
    pins: dict[str, str],
    device: weights_pb2.DeviceRequest | None,
    deadline: Deadline,
    on_progress: Callable[[weights_pb2.LoadProgress], None],
    revision: str = "",
) -> weights_pb2.Grant:
    """Waits until the model is resident and returns the grant of a lease that belongs to the token's session.

    With a `revision` only of that one, and only if it is resident.
    """
    if len(model.encode()) > _MAX_MODEL:
        raise error("INVALID_URI", f"a name of {len(model)} characters", model=model[:100])
    wanted = weights_pb2.AcquireRequest(
        model=model, sha256=pins, device=device, revision=revision, resident_only=bool(revision)
    )
    request = wanted.SerializeToString()
    if len(request) > MAX_REQUEST:
        hint = "pin the other files in the daemon's configuration"
        raise error("INVALID_ARGUMENT", f"{len(pins)} SHA-256 pins are too many", model=model, hint=hint)
    grant: weights_pb2.Grant | None = None
    try:
        with Call(
            directory / "weightd.sock",
            "/weightd.v1.Weights/Acquire",
            request,
            {"weightd-session": token},
            deadline,
        ) as call:
            # To the end of the stream, not only to the grant: cancelling earlier would give the lease back.
            for message in call:
                response = weights_pb2.AcquireResponse.FromString(message)
                if response.HasField("grant"):
                    grant = response.grant
                elif response.HasField("progress"):
                    on_progress(response.progress)
    except CallFailed as failure:
        raise _translate(failure, deadline) from None
    if grant is None:
        raise error("INTERNAL", "the daemon ended the call without a grant")
    return grant


def _translate(failure: CallFailed, deadline: Deadline) -> Error:
    """The one place where a gRPC status becomes an exception."""
    detail = failure.trailers.get("weightd-error-bin")
    if detail is not None:
        content = base64.b64decode(detail + "=" * (-len(detail) % 4))
        return from_detail(error_pb2.ErrorDetail.FromString(content))
    # The daemon's clock may be the first to see the deadline pass: it then cancels the call, as nobody else does.
    if failure.code in (_CANCELLED, _DEADLINE_EXCEEDED):
        return deadline.passed()
    if failure.code == _UNAVAILABLE:
        return error("DAEMON_UNREACHABLE", f"the daemon went away: {failure.message}", hint="try again later")
    return error("INTERNAL", f"gRPC status {failure.code}: {failure.message}")
