#include "daemon/service/tensor_index_codec.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/service/message_count.h"

namespace weightd::service {
namespace {

constexpr const char* kAsStored = "as-stored";

// More than the headers of a model's files may take.
constexpr size_t kMostIndexBytes = 256 << 20;
// The least that a tensor takes, or anything else that there are many of. In memory it takes 25
// times as much at the most.
constexpr size_t kLeastBytes = 6;
constexpr int64_t kMessagesInAny = 1000;
constexpr MessageShape::Below kOfPiece[] = {{1, nullptr}, {3, nullptr}, {4, nullptr}, {9, nullptr}};
constexpr MessageShape kPiece = {kOfPiece};
constexpr MessageShape::Below kOfLayout[] = {{2, &kPiece}};
constexpr MessageShape kLayout = {kOfLayout};
constexpr MessageShape kVerification = {};
constexpr MessageShape::Below kOfIndex[] = {{4, &kLayout}, {7, &kVerification}};
constexpr MessageShape kIndex = {kOfIndex};

void Fill(const pipeline::Piece& piece, v1::TensorPiece& proto) {
  proto.set_name(piece.name);
  proto.set_dtype(static_cast<v1::DType>(piece.dtype));
  proto.mutable_shape()->Add(piece.shape.begin(), piece.shape.end());
  proto.set_offset(piece.offset);
  proto.set_device_offset(piece.device_offset);
  proto.set_nbytes(piece.nbytes);
  proto.set_file(piece.file);
  proto.set_torch_type(piece.torch_type);
}

absl::Status Malformed(absl::string_view what) {
  return Error(Reason::kVerificationFailed, absl::StrCat("its tensor index is malformed: ", what));
}

bool Lies(uint64_t offset, uint64_t bytes, uint64_t room) {
  return offset <= room && bytes <= room - offset;
}

absl::StatusOr<pipeline::Piece> PieceOf(const v1::TensorPiece& proto,
                                        const v1::TensorIndex& index) {
  pipeline::Piece piece;
  piece.name = proto.name();
  piece.dtype = static_cast<DType>(proto.dtype());
  piece.torch_type = proto.torch_type();
  piece.shape.assign(proto.shape().begin(), proto.shape().end());
  piece.offset = proto.offset();
  piece.device_offset = proto.device_offset();
  piece.nbytes = proto.nbytes();
  piece.file = proto.file();
  const bool is_type = v1::DType_IsValid(proto.dtype()) && proto.dtype() != v1::DTYPE_UNSPECIFIED;
  if (!is_type || TensorBytes(piece.dtype, piece.shape) != piece.nbytes) {
    return Malformed("a tensor has not as many bytes as its shape");
  }
  if (piece.file >= static_cast<uint32_t>(index.files_size()) ||
      !Lies(piece.offset, piece.nbytes, index.segment_bytes()) ||
      !Lies(piece.device_offset, piece.nbytes, index.device_bytes())) {
    return Malformed("a tensor lies outside of the segment");
  }
  return piece;
}

}  // namespace

v1::TensorPiece ToProto(const pipeline::Piece& piece) {
  v1::TensorPiece proto;
  Fill(piece, proto);
  return proto;
}

v1::ModelFile ToProto(const pipeline::ModelFile& file) {
  v1::ModelFile proto;
  proto.set_name(ToUtf8(file.name));
  proto.set_size(file.version.size);
  proto.set_validator(ToUtf8(file.version.validator));
  return proto;
}

v1::SmallFile ToProto(const pipeline::SmallFile& small) {
  v1::SmallFile proto;
  proto.set_name(ToUtf8(small.file.name));
  proto.set_left_out(ToUtf8(small.left_out));
  if (small.left_out.empty()) {
    proto.set_offset(small.offset);
    proto.set_nbytes(small.bytes());
  }
  return proto;
}

void AddCheck(const std::string& file, const pipeline::Verified& verified,
              v1::Verification& proto) {
  const std::string kind(NameOf(verified.kind));
  const auto& kinds = proto.checks();
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
    proto.add_checks(kind);
  }
  v1::FileCheck& check = *proto.add_files();
  check.set_file(ToUtf8(file));
  check.set_kind(kind);
  check.set_value(source::ShowDigest(verified.value, verified.parts));
  check.set_by(static_cast<v1::FileCheck::Authority>(verified.by));
}

v1::Verification VerificationOf(const pipeline::ModelIndex& index,
                                absl::Span<const pipeline::Verified> verified) {
  v1::Verification proto;
  proto.set_pinned_to_version(index.pinned_to_version);
  for (const pipeline::Verified& one : verified) {
    AddCheck(index.files[one.file].name, one, proto);
  }
  if (const pipeline::TensorProof& proof = index.tensor_proof; proof != pipeline::TensorProof()) {
    v1::TensorChecks& tensors = *proto.mutable_tensors();
    tensors.set_crc32(proof.crc32);
    tensors.set_sha256(proof.sha256);
    tensors.set_poly1305(proof.poly1305);
    tensors.set_unverified(proof.unverified);
    tensors.set_unauthenticated(proof.unauthenticated);
  }
  return proto;
}

std::string EncodeTensorIndex(const pipeline::ModelIndex& index) {
  google::protobuf::Arena arena;
  v1::TensorIndex& proto = *google::protobuf::Arena::CreateMessage<v1::TensorIndex>(&arena);
  proto.set_version(kTensorIndexVersion);
  proto.set_revision(index.revision.hex());
  proto.set_model(index.uri.Redacted());
  v1::Layout& layout = *proto.mutable_layout();
  layout.set_name(kAsStored);
  layout.mutable_pieces()->Reserve(static_cast<int>(index.pieces.size()));
  for (const pipeline::Piece& piece : index.pieces) {
    Fill(piece, *layout.add_pieces());
  }
  for (const pipeline::ModelFile& file : index.files) {
    *proto.add_files() = ToProto(file);
  }
  for (const pipeline::SmallFile& small : index.small_files) {
    *proto.add_small_files() = ToProto(small);
  }
  for (const auto& [key, value] : index.metadata) {
    (*proto.mutable_metadata())[key] = value;
  }
  *proto.mutable_verification() = VerificationOf(index, index.verified);
  proto.set_segment_bytes(index.segment_bytes);
  proto.set_device_bytes(index.device_bytes);
  return proto.SerializeAsString();
}

absl::StatusOr<pipeline::ModelIndex> DecodeTensorIndex(absl::string_view bytes) {
  google::protobuf::Arena arena;
  v1::TensorIndex& proto = *google::protobuf::Arena::CreateMessage<v1::TensorIndex>(&arena);
  const auto most = static_cast<int64_t>(bytes.size() / kLeastBytes) + kMessagesInAny;
  if (bytes.size() > kMostIndexBytes || !HasFewMessages(bytes, kIndex, most) ||
      !proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Malformed("no TensorIndex");
  }
  if (proto.version() != kTensorIndexVersion || proto.layout().name() != kAsStored) {
    return Malformed(
        absl::StrCat("its version is ", proto.version(), ", not ", kTensorIndexVersion));
  }
  pipeline::ModelIndex index;
  index.revision = RevisionId(proto.revision());
  index.segment_bytes = proto.segment_bytes();
  index.device_bytes = proto.device_bytes();
  index.pieces.reserve(proto.layout().pieces_size());
  for (const v1::TensorPiece& piece : proto.layout().pieces()) {
    ASSIGN_OR_RETURN(pipeline::Piece decoded, PieceOf(piece, proto));
    if (!index.pieces.empty() && decoded.name <= index.pieces.back().name) {
      return Malformed("its tensors are in no order");
    }
    index.pieces.push_back(std::move(decoded));
  }
  index.metadata.insert(proto.metadata().begin(), proto.metadata().end());
  return index;
}

}  // namespace weightd::service
