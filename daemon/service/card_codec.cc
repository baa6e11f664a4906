#include "daemon/service/card_codec.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/host/kept_memory.h"
#include "daemon/pipeline/model.h"
#include "daemon/service/message_count.h"
#include "daemon/source/checksum.h"
#include "daemon/source/source.h"
#include "daemon/source/trail.h"
#include "weightd/v1/model_card.pb.h"

namespace weightd::service {
namespace {

// Files, checks, redirects and the like: more than models have.
constexpr int64_t kMostMessages = 200'000;
constexpr MessageShape kTrail = {};
constexpr MessageShape::Below kOfFile[] = {{8, &kTrail}};
constexpr MessageShape kFile = {kOfFile};
constexpr MessageShape::Below kOfSmallFile[] = {{1, &kFile}};
constexpr MessageShape kSmallFile = {kOfSmallFile};
constexpr MessageShape::Below kOfCard[] = {{3, &kFile}, {4, &kFile}, {5, &kSmallFile}};
constexpr MessageShape kCard = {kOfCard};
constexpr int kNumbersOfExtent = 4;
constexpr size_t kRevisionDigits = 64;

absl::Status Malformed(absl::string_view what) {
  return Error(Reason::kVerificationFailed, absl::StrCat("its card is malformed: ", what));
}

void Fill(const source::ObjectVersion& version, v1::CardFile& proto) {
  proto.set_uri(version.uri.ToString());
  proto.set_size(version.size);
  proto.set_validator(version.validator);
  proto.set_strong(version.strong);
  proto.set_last_modified(version.last_modified);
  proto.set_ranges(version.ranges);
  if (version.trail == nullptr) {
    return;
  }
  v1::CardTrail& trail = *proto.mutable_trail();
  const auto places = version.trail->Places();
  trail.set_lost(!places.has_value());
  for (const std::string& place : places.value_or(std::vector<std::string>())) {
    trail.add_places(place);
  }
}

void Fill(const pipeline::ModelFile& file, v1::CardFile& proto) {
  proto.set_name(file.name);
  Fill(file.version, proto);
}

void Fill(const cache::KeptMemory& memory, v1::CardMemory& proto) {
  proto.set_device(memory.id.device);
  proto.set_inode(memory.id.inode);
  proto.set_bytes(memory.bytes);
}

void FillFiles(const cache::CardFacts& facts, v1::ModelCard& proto) {
  for (size_t i = 0; i < facts.index.files.size(); ++i) {
    v1::CardFile& file = *proto.add_files();
    Fill(facts.index.files[i], file);
    if (i < facts.headers.size()) {
      file.set_header_sha256(facts.headers[i].sha256);
      file.set_header_bytes(facts.headers[i].bytes);
    }
  }
  if (facts.index.index_file.has_value()) {
    Fill(*facts.index.index_file, *proto.mutable_index_file());
  }
  for (const pipeline::SmallFile& small : facts.index.small_files) {
    v1::CardSmallFile& added = *proto.add_small_files();
    Fill(small.file, *added.mutable_file());
    added.set_offset(small.offset);
    added.set_left_out(small.left_out);
  }
}

void FillProofs(const pipeline::ModelIndex& index, v1::ModelCard& proto) {
  for (const pipeline::Verified& verified : index.verified) {
    v1::CardCheck& check = *proto.add_verified();
    check.set_file(verified.file);
    check.set_kind(static_cast<uint32_t>(verified.kind));
    check.set_value(verified.value);
    check.set_parts(verified.parts);
    check.set_by(static_cast<v1::FileCheck::Authority>(verified.by));
  }
  v1::TensorChecks& tensors = *proto.mutable_tensor_proof();
  tensors.set_crc32(index.tensor_proof.crc32);
  tensors.set_sha256(index.tensor_proof.sha256);
  tensors.set_poly1305(index.tensor_proof.poly1305);
  tensors.set_unverified(index.tensor_proof.unverified);
  tensors.set_unauthenticated(index.tensor_proof.unauthenticated);
  proto.set_pinned_to_version(index.pinned_to_version);
}

absl::StatusOr<Uri> UriOf(const std::string& text) {
  const absl::StatusOr<Uri> uri = Uri::Parse(text);
  if (!uri.ok() || uri->ToString() != text) {
    return Malformed("a URI isn't one");
  }
  return *uri;
}

absl::StatusOr<std::shared_ptr<source::Trail>> TrailOf(const v1::CardTrail& proto) {
  if (static_cast<size_t>(proto.places_size()) > source::Trail::kMostPlaces) {
    return Malformed("too many redirects");
  }
  auto trail = std::make_shared<source::Trail>();
  for (const std::string& place : proto.places()) {
    trail->Add(place);
  }
  if (proto.lost()) {
    trail->Add(std::nullopt);
  }
  return trail;
}

absl::StatusOr<pipeline::ModelFile> FileOf(const v1::CardFile& proto) {
  pipeline::ModelFile file;
  file.name = proto.name();
  ASSIGN_OR_RETURN(file.version.uri, UriOf(proto.uri()));
  file.version.size = proto.size();
  file.version.validator = proto.validator();
  file.version.strong = proto.strong();
  file.version.last_modified = proto.last_modified();
  file.version.ranges = proto.ranges();
  if (proto.has_trail()) {
    ASSIGN_OR_RETURN(file.version.trail, TrailOf(proto.trail()));
  }
  return file;
}

cache::KeptMemory MemoryOf(const v1::CardMemory& proto) {
  return {.id = {.device = proto.device(), .inode = proto.inode()}, .bytes = proto.bytes()};
}

absl::Status TakeFiles(const v1::ModelCard& proto, cache::CardFacts& facts) {
  for (const v1::CardFile& file : proto.files()) {
    ASSIGN_OR_RETURN(pipeline::ModelFile taken, FileOf(file));
    facts.index.files.push_back(std::move(taken));
    facts.headers.push_back({.sha256 = file.header_sha256(), .bytes = file.header_bytes()});
  }
  if (facts.index.files.empty()) {
    return Malformed("no files");
  }
  if (proto.has_index_file()) {
    ASSIGN_OR_RETURN(facts.index.index_file, FileOf(proto.index_file()));
  }
  const uint64_t room = proto.small_file_memory().bytes();
  for (const v1::CardSmallFile& small : proto.small_files()) {
    pipeline::SmallFile taken;
    ASSIGN_OR_RETURN(taken.file, FileOf(small.file()));
    taken.offset = small.offset();
    taken.left_out = small.left_out();
    if (taken.bytes() > 0 && (taken.offset > room || taken.bytes() > room - taken.offset)) {
      return Malformed("a small file lies outside of their memory");
    }
    facts.index.small_files.push_back(std::move(taken));
  }
  return absl::OkStatus();
}

absl::Status TakeExtents(const v1::ModelCard& proto, cache::CardFacts& facts) {
  const auto& numbers = proto.extents();
  if (numbers.size() % kNumbersOfExtent != 0) {
    return Malformed("half an extent");
  }
  facts.index.extents.reserve(numbers.size() / kNumbersOfExtent);
  // The index says how long a segment would be that isn't in host memory.
  const uint64_t room =
      facts.weights.has_value() ? facts.weights->bytes : std::numeric_limits<uint64_t>::max();
  for (int i = 0; i < numbers.size(); i += kNumbersOfExtent) {
    const uint64_t file = numbers[i];
    const ByteRange bytes = {numbers[i + 1], numbers[i + 2]};
    const uint64_t offset = numbers[i + 3];
    if (file >= facts.index.files.size() || bytes.begin > bytes.end ||
        bytes.end > facts.index.files[file].version.size || offset > room ||
        bytes.size() > room - offset) {
      return Malformed("an extent lies outside of its file or of the segment");
    }
    facts.index.extents.push_back(
        {.file = static_cast<uint32_t>(file), .bytes = bytes, .offset = offset});
  }
  return absl::OkStatus();
}

absl::Status TakeProofs(const v1::ModelCard& proto, pipeline::ModelIndex& index) {
  for (const v1::CardCheck& check : proto.verified()) {
    const bool known = std::any_of(
        std::begin(source::kChecksumKinds), std::end(source::kChecksumKinds),
        [&](source::ChecksumKind kind) { return static_cast<uint32_t>(kind) == check.kind(); });
    const auto kind = static_cast<source::ChecksumKind>(check.kind());
    const bool by_somebody = check.by() == v1::FileCheck::STORE || check.by() == v1::FileCheck::PIN;
    if (!known || !by_somebody || check.file() >= index.files.size() ||
        check.value().size() != SizeOf(kind)) {
      return Malformed("a checksum");
    }
    index.verified.push_back({.file = check.file(),
                              .kind = kind,
                              .value = check.value(),
                              .parts = check.parts(),
                              .by = static_cast<pipeline::Authority>(check.by())});
  }
  const v1::TensorChecks& tensors = proto.tensor_proof();
  index.tensor_proof = {.crc32 = tensors.crc32(),
                        .sha256 = tensors.sha256(),
                        .poly1305 = tensors.poly1305(),
                        .unverified = tensors.unverified(),
                        .unauthenticated = tensors.unauthenticated()};
  index.pinned_to_version = proto.pinned_to_version();
  return absl::OkStatus();
}

absl::StatusOr<RevisionId> RevisionOf(const std::string& hex) {
  const bool digits = std::all_of(hex.begin(), hex.end(), [](char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
  if (hex.size() != kRevisionDigits || !digits) {
    return Malformed("a revision isn't one");
  }
  return RevisionId(hex);
}

}  // namespace

std::string EncodeCard(const cache::CardFacts& facts) {
  google::protobuf::Arena arena;
  v1::ModelCard& proto = *google::protobuf::Arena::CreateMessage<v1::ModelCard>(&arena);
  proto.set_uri(facts.index.uri.ToString());
  proto.set_revision(facts.index.revision.hex());
  FillFiles(facts, proto);
  proto.mutable_extents()->Reserve(static_cast<int>(facts.index.extents.size()) * kNumbersOfExtent);
  for (const pipeline::Extent& extent : facts.index.extents) {
    for (const uint64_t number :
         {uint64_t{extent.file}, extent.bytes.begin, extent.bytes.end, extent.offset}) {
      proto.add_extents(number);
    }
  }
  FillProofs(facts.index, proto);
  proto.set_any_path(facts.policy.any_path);
  proto.set_any_address(facts.policy.any_address);
  proto.set_unpinned(facts.policy.unpinned);
  proto.set_loaded_at(absl::ToUnixMicros(facts.loaded_at));
  if (facts.weights.has_value()) {
    Fill(*facts.weights, *proto.mutable_weights());
  }
  Fill(facts.encoded_index, *proto.mutable_encoded_index());
  if (facts.small_files.has_value()) {
    Fill(*facts.small_files, *proto.mutable_small_file_memory());
  }
  proto.set_encoded_index_sha256(facts.encoded_index_sha256);
  return proto.SerializeAsString();
}

absl::StatusOr<cache::CardFacts> DecodeCard(absl::string_view body) {
  google::protobuf::Arena arena;
  v1::ModelCard& proto = *google::protobuf::Arena::CreateMessage<v1::ModelCard>(&arena);
  if (!HasFewMessages(body, kCard, kMostMessages) ||
      !proto.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return Malformed("no ModelCard");
  }
  cache::CardFacts facts;
  ASSIGN_OR_RETURN(facts.index.uri, UriOf(proto.uri()));
  ASSIGN_OR_RETURN(facts.index.revision, RevisionOf(proto.revision()));
  if (proto.has_weights()) {
    facts.weights = MemoryOf(proto.weights());
  }
  facts.encoded_index = MemoryOf(proto.encoded_index());
  if (proto.has_small_file_memory()) {
    facts.small_files = MemoryOf(proto.small_file_memory());
  }
  RETURN_IF_ERROR(TakeFiles(proto, facts));
  RETURN_IF_ERROR(TakeExtents(proto, facts));
  RETURN_IF_ERROR(TakeProofs(proto, facts.index));
  facts.policy = {.any_path = proto.any_path(),
                  .any_address = proto.any_address(),
                  .unpinned = proto.unpinned()};
  facts.loaded_at = absl::FromUnixMicros(proto.loaded_at());
  facts.encoded_index_sha256 = proto.encoded_index_sha256();
  return facts;
}

}  // namespace weightd::service
