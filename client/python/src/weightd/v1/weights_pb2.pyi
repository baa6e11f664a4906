from google.protobuf import timestamp_pb2 as _timestamp_pb2
from weightd.v1 import tensor_index_pb2 as _tensor_index_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

ABSENT: ModelState
COPYING: LoadPhase
DESCRIPTOR: _descriptor.FileDescriptor
DONE: LoadPhase
DRAINING: ModelState
LOADING: ModelState
LOAD_PHASE_UNSPECIFIED: LoadPhase
MODEL_STATE_UNSPECIFIED: ModelState
QUEUED: LoadPhase
RESERVING: LoadPhase
RESIDENT: ModelState
RESOLVING: LoadPhase
SEALING: LoadPhase
TRANSFERRING: LoadPhase

class AcquireRequest(_message.Message):
    __slots__ = ["device", "model", "resident_only", "revision", "sha256"]
    class Sha256Entry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_ONLY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    device: DeviceRequest
    model: str
    resident_only: bool
    revision: str
    sha256: _containers.ScalarMap[str, str]
    def __init__(self, model: _Optional[str] = ..., resident_only: bool = ..., revision: _Optional[str] = ..., sha256: _Optional[_Mapping[str, str]] = ..., device: _Optional[_Union[DeviceRequest, _Mapping]] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ["grant", "progress"]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    progress: LoadProgress
    def __init__(self, progress: _Optional[_Union[LoadProgress, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class DeviceGrant(_message.Message):
    __slots__ = ["gpu_uuid", "legacy_handle", "legacy_offset", "mode", "nbytes"]
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    LEGACY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    LEGACY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    gpu_uuid: bytes
    legacy_handle: bytes
    legacy_offset: int
    mode: DeviceRequest.Mode
    nbytes: int
    def __init__(self, gpu_uuid: _Optional[bytes] = ..., mode: _Optional[_Union[DeviceRequest.Mode, str]] = ..., nbytes: _Optional[int] = ..., legacy_handle: _Optional[bytes] = ..., legacy_offset: _Optional[int] = ...) -> None: ...

class DeviceRequest(_message.Message):
    __slots__ = ["gpu_uuid", "legacy", "mode"]
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    LEGACY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODE_UNSPECIFIED: DeviceRequest.Mode
    PRIVATE: DeviceRequest.Mode
    SHARED: DeviceRequest.Mode
    gpu_uuid: bytes
    legacy: bool
    mode: DeviceRequest.Mode
    def __init__(self, gpu_uuid: _Optional[bytes] = ..., mode: _Optional[_Union[DeviceRequest.Mode, str]] = ..., legacy: bool = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelSummary
    def __init__(self, model: _Optional[_Union[ModelSummary, _Mapping]] = ...) -> None: ...

class GpuCopy(_message.Message):
    __slots__ = ["gpu", "leases", "nbytes"]
    GPU_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    gpu: str
    leases: int
    nbytes: int
    def __init__(self, gpu: _Optional[str] = ..., nbytes: _Optional[int] = ..., leases: _Optional[int] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ["device", "lease_id", "model", "verification"]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    device: DeviceGrant
    lease_id: int
    model: ModelSummary
    verification: _tensor_index_pb2.Verification
    def __init__(self, lease_id: _Optional[int] = ..., model: _Optional[_Union[ModelSummary, _Mapping]] = ..., verification: _Optional[_Union[_tensor_index_pb2.Verification, _Mapping]] = ..., device: _Optional[_Union[DeviceGrant, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ["page_size", "page_token"]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ["models", "next_page_token"]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class LoadProgress(_message.Message):
    __slots__ = ["bytes_done", "bytes_total", "phase"]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    phase: LoadPhase
    def __init__(self, phase: _Optional[_Union[LoadPhase, str]] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ["aliases", "file_count", "gpu_copies", "host_bytes", "last_error", "last_used_at", "leases", "loaded_at", "model", "pinned", "progress", "readopted", "revision", "stale", "state", "tensor_count", "uses"]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_COPIES_FIELD_NUMBER: _ClassVar[int]
    HOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    READOPTED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    file_count: int
    gpu_copies: _containers.RepeatedCompositeFieldContainer[GpuCopy]
    host_bytes: int
    last_error: str
    last_used_at: _timestamp_pb2.Timestamp
    leases: int
    loaded_at: _timestamp_pb2.Timestamp
    model: str
    pinned: bool
    progress: LoadProgress
    readopted: bool
    revision: str
    stale: bool
    state: ModelState
    tensor_count: int
    uses: int
    def __init__(self, model: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[ModelState, str]] = ..., revision: _Optional[str] = ..., host_bytes: _Optional[int] = ..., tensor_count: _Optional[int] = ..., file_count: _Optional[int] = ..., leases: _Optional[int] = ..., pinned: bool = ..., stale: bool = ..., progress: _Optional[_Union[LoadProgress, _Mapping]] = ..., loaded_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_error: _Optional[str] = ..., gpu_copies: _Optional[_Iterable[_Union[GpuCopy, _Mapping]]] = ..., readopted: bool = ..., uses: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ["lease_id"]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class LoadPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
