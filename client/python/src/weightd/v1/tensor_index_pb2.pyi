from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

BF16: DType
BOOL: DType
C128: DType
C32: DType
C64: DType
DESCRIPTOR: _descriptor.FileDescriptor
DTYPE_UNSPECIFIED: DType
F16: DType
F32: DType
F4: DType
F64: DType
F6_E2M3: DType
F6_E3M2: DType
F8_E4M3: DType
F8_E4M3FNUZ: DType
F8_E5M2: DType
F8_E5M2FNUZ: DType
F8_E8M0: DType
I16: DType
I32: DType
I64: DType
I8: DType
U16: DType
U32: DType
U64: DType
U8: DType

class FileCheck(_message.Message):
    __slots__ = ["by", "file", "kind", "value"]
    class Authority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    AUTHORITY_UNSPECIFIED: FileCheck.Authority
    BY_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PIN: FileCheck.Authority
    STORE: FileCheck.Authority
    VALUE_FIELD_NUMBER: _ClassVar[int]
    by: FileCheck.Authority
    file: str
    kind: str
    value: str
    def __init__(self, file: _Optional[str] = ..., kind: _Optional[str] = ..., value: _Optional[str] = ..., by: _Optional[_Union[FileCheck.Authority, str]] = ...) -> None: ...

class Layout(_message.Message):
    __slots__ = ["name", "pieces"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    name: str
    pieces: _containers.RepeatedCompositeFieldContainer[TensorPiece]
    def __init__(self, name: _Optional[str] = ..., pieces: _Optional[_Iterable[_Union[TensorPiece, _Mapping]]] = ...) -> None: ...

class ModelFile(_message.Message):
    __slots__ = ["name", "size", "validator"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    VALIDATOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    validator: str
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., validator: _Optional[str] = ...) -> None: ...

class SmallFile(_message.Message):
    __slots__ = ["left_out", "name", "nbytes", "offset"]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    left_out: str
    name: str
    nbytes: int
    offset: int
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ..., nbytes: _Optional[int] = ..., left_out: _Optional[str] = ...) -> None: ...

class TensorChecks(_message.Message):
    __slots__ = ["crc32", "poly1305", "sha256", "unauthenticated", "unverified"]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    POLY1305_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    UNAUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    UNVERIFIED_FIELD_NUMBER: _ClassVar[int]
    crc32: int
    poly1305: int
    sha256: int
    unauthenticated: int
    unverified: int
    def __init__(self, crc32: _Optional[int] = ..., sha256: _Optional[int] = ..., poly1305: _Optional[int] = ..., unverified: _Optional[int] = ..., unauthenticated: _Optional[int] = ...) -> None: ...

class TensorIndex(_message.Message):
    __slots__ = ["device_bytes", "files", "layout", "metadata", "model", "revision", "segment_bytes", "small_files", "verification", "version"]
    class MetadataEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SMALL_FILES_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    device_bytes: int
    files: _containers.RepeatedCompositeFieldContainer[ModelFile]
    layout: Layout
    metadata: _containers.ScalarMap[str, str]
    model: str
    revision: str
    segment_bytes: int
    small_files: _containers.RepeatedCompositeFieldContainer[SmallFile]
    verification: Verification
    version: int
    def __init__(self, version: _Optional[int] = ..., revision: _Optional[str] = ..., model: _Optional[str] = ..., layout: _Optional[_Union[Layout, _Mapping]] = ..., files: _Optional[_Iterable[_Union[ModelFile, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., verification: _Optional[_Union[Verification, _Mapping]] = ..., segment_bytes: _Optional[int] = ..., device_bytes: _Optional[int] = ..., small_files: _Optional[_Iterable[_Union[SmallFile, _Mapping]]] = ...) -> None: ...

class TensorPiece(_message.Message):
    __slots__ = ["derived_from", "device_offset", "dtype", "file", "name", "nbytes", "offset", "shape", "strides", "torch_type"]
    DERIVED_FROM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    STRIDES_FIELD_NUMBER: _ClassVar[int]
    TORCH_TYPE_FIELD_NUMBER: _ClassVar[int]
    derived_from: _containers.RepeatedScalarFieldContainer[str]
    device_offset: int
    dtype: DType
    file: int
    name: str
    nbytes: int
    offset: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    strides: _containers.RepeatedScalarFieldContainer[int]
    torch_type: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., strides: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., nbytes: _Optional[int] = ..., file: _Optional[int] = ..., derived_from: _Optional[_Iterable[str]] = ..., torch_type: _Optional[str] = ..., device_offset: _Optional[int] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ["checks", "files", "pinned_to_version", "tensors"]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PINNED_TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedScalarFieldContainer[str]
    files: _containers.RepeatedCompositeFieldContainer[FileCheck]
    pinned_to_version: bool
    tensors: TensorChecks
    def __init__(self, checks: _Optional[_Iterable[str]] = ..., pinned_to_version: bool = ..., files: _Optional[_Iterable[_Union[FileCheck, _Mapping]]] = ..., tensors: _Optional[_Union[TensorChecks, _Mapping]] = ...) -> None: ...

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
