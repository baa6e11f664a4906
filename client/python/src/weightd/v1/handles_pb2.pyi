from weightd.v1 import error_pb2 as _error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Claim(_message.Message):
    __slots__ = ["lease_id"]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ...) -> None: ...

class ClaimFailed(_message.Message):
    __slots__ = ["error", "lease_id"]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    error: _error_pb2.ErrorDetail
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class Handle(_message.Message):
    __slots__ = ["kind", "nbytes"]
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    DEVICE_SEGMENT: Handle.Kind
    HOST_SEGMENT: Handle.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    KIND_UNSPECIFIED: Handle.Kind
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    SMALL_FILES: Handle.Kind
    TENSOR_INDEX: Handle.Kind
    kind: Handle.Kind
    nbytes: int
    def __init__(self, kind: _Optional[_Union[Handle.Kind, str]] = ..., nbytes: _Optional[int] = ...) -> None: ...

class HandleReply(_message.Message):
    __slots__ = ["failed", "handles", "hello"]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    failed: ClaimFailed
    handles: Handles
    hello: Hello
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., handles: _Optional[_Union[Handles, _Mapping]] = ..., failed: _Optional[_Union[ClaimFailed, _Mapping]] = ...) -> None: ...

class HandleRequest(_message.Message):
    __slots__ = ["claim"]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    claim: Claim
    def __init__(self, claim: _Optional[_Union[Claim, _Mapping]] = ...) -> None: ...

class Handles(_message.Message):
    __slots__ = ["handles", "lease_id"]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    handles: _containers.RepeatedCompositeFieldContainer[Handle]
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ..., handles: _Optional[_Iterable[_Union[Handle, _Mapping]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ["daemon_version", "protocol_version", "session_token"]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    daemon_version: str
    protocol_version: int
    session_token: str
    def __init__(self, session_token: _Optional[str] = ..., protocol_version: _Optional[int] = ..., daemon_version: _Optional[str] = ...) -> None: ...
