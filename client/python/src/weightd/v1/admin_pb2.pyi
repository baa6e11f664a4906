from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from weightd.v1 import error_pb2 as _error_pb2
from weightd.v1 import tensor_index_pb2 as _tensor_index_pb2
from weightd.v1 import weights_pb2 as _weights_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConfiguredModel(_message.Message):
    __slots__ = ["failures", "last_error", "name", "next_try_at", "pin", "preload", "state", "uri"]
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    EVICTED: ConfiguredModel.State
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LOADING: ConfiguredModel.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEXT_TRY_AT_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND: ConfiguredModel.State
    PIN_FIELD_NUMBER: _ClassVar[int]
    PRELOAD_FIELD_NUMBER: _ClassVar[int]
    READY: ConfiguredModel.State
    RETRYING: ConfiguredModel.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_UNSPECIFIED: ConfiguredModel.State
    URI_FIELD_NUMBER: _ClassVar[int]
    failures: int
    last_error: str
    name: str
    next_try_at: _timestamp_pb2.Timestamp
    pin: bool
    preload: bool
    state: ConfiguredModel.State
    uri: str
    def __init__(self, name: _Optional[str] = ..., uri: _Optional[str] = ..., preload: bool = ..., pin: bool = ..., state: _Optional[_Union[ConfiguredModel.State, str]] = ..., failures: _Optional[int] = ..., last_error: _Optional[str] = ..., next_try_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DescribeModelRequest(_message.Message):
    __slots__ = ["model", "page_size", "page_token"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ["files", "huge_page_fraction", "metadata", "model", "next_page_token", "tensors", "verification"]
    class MetadataEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    HUGE_PAGE_FRACTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[_tensor_index_pb2.ModelFile]
    huge_page_fraction: float
    metadata: _containers.ScalarMap[str, str]
    model: _weights_pb2.ModelSummary
    next_page_token: str
    tensors: _containers.RepeatedCompositeFieldContainer[_tensor_index_pb2.TensorPiece]
    verification: _tensor_index_pb2.Verification
    def __init__(self, model: _Optional[_Union[_weights_pb2.ModelSummary, _Mapping]] = ..., files: _Optional[_Iterable[_Union[_tensor_index_pb2.ModelFile, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., tensors: _Optional[_Iterable[_Union[_tensor_index_pb2.TensorPiece, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., verification: _Optional[_Union[_tensor_index_pb2.Verification, _Mapping]] = ..., huge_page_fraction: _Optional[float] = ...) -> None: ...

class DrainGpuRequest(_message.Message):
    __slots__ = ["force", "gpu"]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    force: bool
    gpu: str
    def __init__(self, gpu: _Optional[str] = ..., force: bool = ...) -> None: ...

class DrainGpuResponse(_message.Message):
    __slots__ = ["freed_bytes", "gpu"]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    freed_bytes: int
    gpu: GpuStatus
    def __init__(self, gpu: _Optional[_Union[GpuStatus, _Mapping]] = ..., freed_bytes: _Optional[int] = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ["wait"]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    wait: _duration_pb2.Duration
    def __init__(self, wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DrainNodeResponse(_message.Message):
    __slots__ = ["handed_over", "keeper", "kept_bytes", "kept_models", "loads_ended", "loads_stopped", "lost_models"]
    HANDED_OVER_FIELD_NUMBER: _ClassVar[int]
    KEEPER_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEPT_MODELS_FIELD_NUMBER: _ClassVar[int]
    LOADS_ENDED_FIELD_NUMBER: _ClassVar[int]
    LOADS_STOPPED_FIELD_NUMBER: _ClassVar[int]
    LOST_MODELS_FIELD_NUMBER: _ClassVar[int]
    handed_over: bool
    keeper: KeeperStatus
    kept_bytes: int
    kept_models: int
    loads_ended: int
    loads_stopped: int
    lost_models: int
    def __init__(self, loads_ended: _Optional[int] = ..., loads_stopped: _Optional[int] = ..., kept_models: _Optional[int] = ..., kept_bytes: _Optional[int] = ..., lost_models: _Optional[int] = ..., handed_over: bool = ..., keeper: _Optional[_Union[KeeperStatus, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ["bytes", "error", "gpu", "kind", "lease_id", "listener", "model", "revision", "time", "took"]
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DRAINED: Event.Kind
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EVICTED: Event.Kind
    GPU_COPIED: Event.Kind
    GPU_DROPPED: Event.Kind
    GPU_FIELD_NUMBER: _ClassVar[int]
    GPU_LOST: Event.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    KIND_UNSPECIFIED: Event.Kind
    LEASE_ENDED: Event.Kind
    LEASE_GRANTED: Event.Kind
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    LOAD_FAILED: Event.Kind
    LOAD_FINISHED: Event.Kind
    LOAD_STARTED: Event.Kind
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_DRAINED: Event.Kind
    NODE_DRAINING: Event.Kind
    NODE_RESUMED: Event.Kind
    NOT_KEPT: Event.Kind
    NOT_READOPTED: Event.Kind
    PINNED: Event.Kind
    READOPTED: Event.Kind
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STALE: Event.Kind
    SUPERSEDED: Event.Kind
    TIME_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    UNPINNED: Event.Kind
    bytes: int
    error: _error_pb2.ErrorDetail
    gpu: str
    kind: Event.Kind
    lease_id: int
    listener: str
    model: str
    revision: str
    time: _timestamp_pb2.Timestamp
    took: _duration_pb2.Duration
    def __init__(self, time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[Event.Kind, str]] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., lease_id: _Optional[int] = ..., bytes: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.ErrorDetail, _Mapping]] = ..., gpu: _Optional[str] = ..., took: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., listener: _Optional[str] = ...) -> None: ...

class EvictRequest(_message.Message):
    __slots__ = ["force", "gpu", "model"]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    force: bool
    gpu: str
    model: str
    def __init__(self, model: _Optional[str] = ..., force: bool = ..., gpu: _Optional[str] = ...) -> None: ...

class EvictResponse(_message.Message):
    __slots__ = ["draining_bytes", "freed_bytes"]
    DRAINING_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    draining_bytes: int
    freed_bytes: int
    def __init__(self, freed_bytes: _Optional[int] = ..., draining_bytes: _Optional[int] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ["text"]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ["draining", "gpus", "host", "keeper", "leases", "listeners", "loads_running", "log_level", "readoption", "sessions", "source_revision", "uptime", "version"]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    KEEPER_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    LOADS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    READOPTION_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REVISION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    draining: bool
    gpus: _containers.RepeatedCompositeFieldContainer[GpuStatus]
    host: TierStatus
    keeper: KeeperStatus
    leases: int
    listeners: _containers.RepeatedCompositeFieldContainer[ListenerStatus]
    loads_running: int
    log_level: str
    readoption: Readoption
    sessions: int
    source_revision: str
    uptime: _duration_pb2.Duration
    version: str
    def __init__(self, version: _Optional[str] = ..., uptime: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., host: _Optional[_Union[TierStatus, _Mapping]] = ..., sessions: _Optional[int] = ..., leases: _Optional[int] = ..., loads_running: _Optional[int] = ..., listeners: _Optional[_Iterable[_Union[ListenerStatus, _Mapping]]] = ..., gpus: _Optional[_Iterable[_Union[GpuStatus, _Mapping]]] = ..., source_revision: _Optional[str] = ..., log_level: _Optional[str] = ..., draining: bool = ..., keeper: _Optional[_Union[KeeperStatus, _Mapping]] = ..., readoption: _Optional[_Union[Readoption, _Mapping]] = ...) -> None: ...

class GpuStatus(_message.Message):
    __slots__ = ["index", "last_error", "name", "state", "tier", "total_bytes", "uuid", "worker_pid"]
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    DRAINED: GpuStatus.State
    FAILED: GpuStatus.State
    IDLE: GpuStatus.State
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUNNING: GpuStatus.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_UNSPECIFIED: GpuStatus.State
    TIER_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    index: int
    last_error: str
    name: str
    state: GpuStatus.State
    tier: TierStatus
    total_bytes: int
    uuid: str
    worker_pid: int
    def __init__(self, uuid: _Optional[str] = ..., index: _Optional[int] = ..., name: _Optional[str] = ..., state: _Optional[_Union[GpuStatus.State, str]] = ..., total_bytes: _Optional[int] = ..., tier: _Optional[_Union[TierStatus, _Mapping]] = ..., worker_pid: _Optional[int] = ..., last_error: _Optional[str] = ...) -> None: ...

class KeeperStatus(_message.Message):
    __slots__ = ["others", "pending", "place", "reachable", "refused", "stored"]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    others: int
    pending: int
    place: str
    reachable: bool
    refused: int
    stored: int
    def __init__(self, place: _Optional[str] = ..., reachable: bool = ..., stored: _Optional[int] = ..., pending: _Optional[int] = ..., refused: _Optional[int] = ..., others: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ["claimed", "granted_at", "lease_id", "listener", "model", "revision", "uid"]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_AT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    claimed: bool
    granted_at: _timestamp_pb2.Timestamp
    lease_id: int
    listener: str
    model: str
    revision: str
    uid: int
    def __init__(self, lease_id: _Optional[int] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., listener: _Optional[str] = ..., uid: _Optional[int] = ..., granted_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., claimed: bool = ...) -> None: ...

class ListConfiguredModelsRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class ListConfiguredModelsResponse(_message.Message):
    __slots__ = ["models"]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ConfiguredModel]
    def __init__(self, models: _Optional[_Iterable[_Union[ConfiguredModel, _Mapping]]] = ...) -> None: ...

class ListLeasesRequest(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ListLeasesResponse(_message.Message):
    __slots__ = ["leases"]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[Lease]
    def __init__(self, leases: _Optional[_Iterable[_Union[Lease, _Mapping]]] = ...) -> None: ...

class ListenerStatus(_message.Message):
    __slots__ = ["directory", "draining_bytes", "leased_bytes", "leases", "max_bytes", "name", "sessions"]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    directory: str
    draining_bytes: int
    leased_bytes: int
    leases: int
    max_bytes: int
    name: str
    sessions: int
    def __init__(self, name: _Optional[str] = ..., directory: _Optional[str] = ..., sessions: _Optional[int] = ..., leases: _Optional[int] = ..., draining_bytes: _Optional[int] = ..., leased_bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class NotReadopted(_message.Message):
    __slots__ = ["error", "model", "pinned"]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    error: _error_pb2.ErrorDetail
    model: str
    pinned: bool
    def __init__(self, model: _Optional[str] = ..., pinned: bool = ..., error: _Optional[_Union[_error_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class PinResponse(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _weights_pb2.ModelSummary
    def __init__(self, model: _Optional[_Union[_weights_pb2.ModelSummary, _Mapping]] = ...) -> None: ...

class PreloadRequest(_message.Message):
    __slots__ = ["gpus", "model", "pin", "secret", "sha256"]
    class Sha256Entry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GPUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    gpus: _containers.RepeatedScalarFieldContainer[str]
    model: str
    pin: bool
    secret: Secret
    sha256: _containers.ScalarMap[str, str]
    def __init__(self, model: _Optional[str] = ..., pin: bool = ..., sha256: _Optional[_Mapping[str, str]] = ..., secret: _Optional[_Union[Secret, _Mapping]] = ..., gpus: _Optional[_Iterable[str]] = ...) -> None: ...

class PreloadResponse(_message.Message):
    __slots__ = ["model", "progress"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    model: _weights_pb2.ModelSummary
    progress: _weights_pb2.LoadProgress
    def __init__(self, progress: _Optional[_Union[_weights_pb2.LoadProgress, _Mapping]] = ..., model: _Optional[_Union[_weights_pb2.ModelSummary, _Mapping]] = ...) -> None: ...

class Readoption(_message.Message):
    __slots__ = ["failures", "not_readopted", "pins_lost", "readopted"]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    NOT_READOPTED_FIELD_NUMBER: _ClassVar[int]
    PINS_LOST_FIELD_NUMBER: _ClassVar[int]
    READOPTED_FIELD_NUMBER: _ClassVar[int]
    failures: _containers.RepeatedCompositeFieldContainer[NotReadopted]
    not_readopted: int
    pins_lost: int
    readopted: int
    def __init__(self, readopted: _Optional[int] = ..., not_readopted: _Optional[int] = ..., pins_lost: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[NotReadopted, _Mapping]]] = ...) -> None: ...

class ReloadConfigRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class ReloadConfigResponse(_message.Message):
    __slots__ = ["added", "changed", "needs_restart", "removed"]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_RESTART_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    added: _containers.RepeatedScalarFieldContainer[str]
    changed: _containers.RepeatedScalarFieldContainer[str]
    needs_restart: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, added: _Optional[_Iterable[str]] = ..., changed: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ..., needs_restart: _Optional[_Iterable[str]] = ...) -> None: ...

class ResumeGpuRequest(_message.Message):
    __slots__ = ["gpu"]
    GPU_FIELD_NUMBER: _ClassVar[int]
    gpu: str
    def __init__(self, gpu: _Optional[str] = ...) -> None: ...

class ResumeGpuResponse(_message.Message):
    __slots__ = ["gpu"]
    GPU_FIELD_NUMBER: _ClassVar[int]
    gpu: GpuStatus
    def __init__(self, gpu: _Optional[_Union[GpuStatus, _Mapping]] = ...) -> None: ...

class ResumeNodeRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class ResumeNodeResponse(_message.Message):
    __slots__ = ["was_draining"]
    WAS_DRAINING_FIELD_NUMBER: _ClassVar[int]
    was_draining: bool
    def __init__(self, was_draining: bool = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ["key", "password"]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    password: bytes
    def __init__(self, key: _Optional[bytes] = ..., password: _Optional[bytes] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ["level"]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class SetLogLevelResponse(_message.Message):
    __slots__ = ["previous"]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    previous: str
    def __init__(self, previous: _Optional[str] = ...) -> None: ...

class TierStatus(_message.Message):
    __slots__ = ["budget", "draining", "loading", "ready", "resident"]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    budget: int
    draining: int
    loading: int
    ready: int
    resident: int
    def __init__(self, budget: _Optional[int] = ..., resident: _Optional[int] = ..., loading: _Optional[int] = ..., draining: _Optional[int] = ..., ready: _Optional[int] = ...) -> None: ...

class UnpinRequest(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class UnpinResponse(_message.Message):
    __slots__ = ["model"]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _weights_pb2.ModelSummary
    def __init__(self, model: _Optional[_Union[_weights_pb2.ModelSummary, _Mapping]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ["event", "lost"]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    event: Event
    lost: int
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., lost: _Optional[int] = ...) -> None: ...
