from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

ADDRESS_REFUSED: ErrorReason
BUDGET_EXCEEDED: ErrorReason
CANCELLED: ErrorReason
DAEMON_UNREACHABLE: ErrorReason
DEADLINE: ErrorReason
DESCRIPTOR: _descriptor.FileDescriptor
DEVICE_MEMORY_SHORT: ErrorReason
DEVICE_NOT_VISIBLE: ErrorReason
DEVICE_UNAVAILABLE: ErrorReason
ERROR_REASON_UNSPECIFIED: ErrorReason
FILE_NOT_FOUND: ErrorReason
HOST_MEMORY_SHORT: ErrorReason
INTERNAL: ErrorReason
INVALID_ARGUMENT: ErrorReason
INVALID_URI: ErrorReason
KEY_MISSING: ErrorReason
KEY_REFUSED: ErrorReason
LEASE_UNKNOWN: ErrorReason
MALFORMED_MODEL: ErrorReason
MODEL_CLOSED: ErrorReason
MODEL_IN_USE: ErrorReason
MODEL_NOT_FOUND: ErrorReason
MODEL_NOT_RESIDENT: ErrorReason
MODEL_PINNED: ErrorReason
NOT_ALLOWED: ErrorReason
OUTPUT_NOT_CREATED: ErrorReason
OUTPUT_NOT_WRITTEN: ErrorReason
PLACEMENT_DIFFERS: ErrorReason
QUOTA_EXCEEDED: ErrorReason
SESSION_INVALID: ErrorReason
SHUTTING_DOWN: ErrorReason
SOURCE_CHANGED: ErrorReason
SOURCE_DENIED: ErrorReason
SOURCE_PROTOCOL: ErrorReason
SOURCE_UNAVAILABLE: ErrorReason
TENSOR_NOT_FOUND: ErrorReason
TOO_MANY_REQUESTS: ErrorReason
UNSUPPORTED: ErrorReason
VERIFICATION_FAILED: ErrorReason

class ErrorDetail(_message.Message):
    __slots__ = ["hint", "message", "model", "reason"]
    HINT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    hint: str
    message: str
    model: str
    reason: ErrorReason
    def __init__(self, reason: _Optional[_Union[ErrorReason, str]] = ..., model: _Optional[str] = ..., hint: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
