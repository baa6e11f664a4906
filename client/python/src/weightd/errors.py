"""What can go wrong, as exceptions.

Every exception is an `Error`. Its class says what kind of failure it is, `reason` which one: a name of the protocol's
`ErrorReason` (stable; see proto/weightd/v1/error.proto).
"""

from __future__ import annotations

# As weightctl writes control characters: messages hold names of foreign files, and a terminal would obey.
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    code: f"\\u{code:04x}" for code in range(0x80, 0xA0)
}


class Error(Exception):
    """Base of all of them. As text, for people, control characters are escaped.

    Attributes:
        message: What happened, one sentence.
        reason: Which failure this is, for programs to act on.
        model: The model as it was named; empty if the failure has none.
        hint: What to do about it; may be empty.
    """

    def __init__(self, message: str, *, reason: str = "INTERNAL", model: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.model = model
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.message} [{self.reason}]"
        return (f"{text}; {self.hint}" if self.hint else text).translate(_ESCAPED)

    def __reduce__(self) -> tuple[object, ...]:
        # Worker pools send exceptions between processes, and keyword arguments get lost on the default way.
        return _rebuild, (type(self), self.message, self.reason, self.model, self.hint)


class InvalidRequestError(Error, ValueError):
    """The request makes no sense, or asks for what this version can't do."""


class NotAllowedError(Error):
    """Not permitted to this user, or to this listener of the daemon."""


class NotFoundError(Error, LookupError):
    """There is no such model, or it is not on this node and was not to be loaded."""


class TensorNotFoundError(NotFoundError, KeyError):
    """The model has no tensor of that name."""


class ModelFileNotFoundError(NotFoundError, KeyError):
    """Beside the model's weights is no file of that name, or weightd doesn't keep it."""


class SourceError(Error):
    """The place that the model comes from refused, failed, or kept changing."""


class MalformedModelError(Error):
    """The model's bytes are not what they should be."""


class NoRoomError(Error):
    """Not enough room on this node, or on its GPU, now."""


class DeviceError(Error):
    """The GPU can't be used: by the daemon, or by this process."""


class DeadlineError(Error, TimeoutError):
    """The timeout passed first."""


class UnavailableError(Error, ConnectionError):
    """No daemon answers, or it is stopping."""


class ClosedError(Error, ValueError):
    """The model was closed."""


class InternalError(Error):
    """A bug: the daemon's, or a peer that doesn't keep to the protocol."""


_CLASSES: dict[str, type[Error]] = {
    "INVALID_URI": InvalidRequestError,
    "INVALID_ARGUMENT": InvalidRequestError,
    "UNSUPPORTED": InvalidRequestError,
    "NOT_ALLOWED": NotAllowedError,
    "SESSION_INVALID": NotAllowedError,
    "LEASE_UNKNOWN": NotAllowedError,
    "ADDRESS_REFUSED": NotAllowedError,
    "MODEL_NOT_FOUND": NotFoundError,
    "MODEL_NOT_RESIDENT": NotFoundError,
    "SOURCE_DENIED": SourceError,
    "SOURCE_UNAVAILABLE": SourceError,
    "SOURCE_CHANGED": SourceError,
    "SOURCE_PROTOCOL": SourceError,
    "MALFORMED_MODEL": MalformedModelError,
    "VERIFICATION_FAILED": MalformedModelError,
    "KEY_MISSING": NotAllowedError,
    "KEY_REFUSED": NotAllowedError,
    "BUDGET_EXCEEDED": NoRoomError,
    "HOST_MEMORY_SHORT": NoRoomError,
    "TOO_MANY_REQUESTS": NoRoomError,
    "QUOTA_EXCEEDED": NoRoomError,
    "MODEL_IN_USE": NoRoomError,
    "MODEL_PINNED": NoRoomError,
    "DEVICE_UNAVAILABLE": DeviceError,
    "DEVICE_MEMORY_SHORT": NoRoomError,
    "PLACEMENT_DIFFERS": InvalidRequestError,
    "DEADLINE": DeadlineError,
    "CANCELLED": UnavailableError,
    "SHUTTING_DOWN": UnavailableError,
    "DAEMON_UNREACHABLE": UnavailableError,
    "TENSOR_NOT_FOUND": TensorNotFoundError,
    "FILE_NOT_FOUND": ModelFileNotFoundError,
    "MODEL_CLOSED": ClosedError,
    "DEVICE_NOT_VISIBLE": DeviceError,
    # Of `weightctl convert`.
    "OUTPUT_NOT_CREATED": InvalidRequestError,
    "OUTPUT_NOT_WRITTEN": NoRoomError,
}


def error(reason: str, message: str, *, model: str = "", hint: str = "") -> Error:
    """The exception that belongs to `reason`; one that this version doesn't know is an InternalError."""
    kind = _CLASSES.get(reason, InternalError)
    return kind(message, reason=reason, model=model, hint=hint)


def _rebuild(kind: type[Error], message: str, reason: str, model: str, hint: str) -> Error:
    return kind(message, reason=reason, model=model, hint=hint)
