#include "daemon/source/s3/s3_multipart.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/checksum.h"
#include "daemon/source/s3/s3_fields.h"
#include "daemon/source/xml_reader.h"

namespace weightd::source {
namespace {

// Ids have no documented bound.
constexpr size_t kMaxId = 2048;
constexpr uint64_t kPartStep = 1 << 20;
constexpr size_t kMd5Bytes = 16;

// It goes back to the server in a query.
bool IsUploadId(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxId &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

absl::StatusOr<uint32_t> ParsePartNumber(absl::string_view text) {
  ASSIGN_OR_RETURN(const uint64_t number, ParseSize(text));
  if (number > kMostParts) {
    return Nonsense("a part beyond the 10,000th");
  }
  return static_cast<uint32_t>(number);
}

class CreationFields : public Fields {
 public:
  CreationFields() : Fields("InitiateMultipartUploadResult") {}

  absl::StatusOr<std::string> Finish() && {
    if (!IsUploadId(id_.value_or(""))) {
      return Nonsense("an upload without an id");
    }
    return *std::move(id_);
  }

 private:
  Field* At(absl::string_view path) override {
    return path == "InitiateMultipartUploadResult/UploadId" ? &id_ : nullptr;
  }

  Field id_;
};

class UploadFields : public Fields {
 public:
  UploadFields() : Fields("ListMultipartUploadsResult") {}

  absl::StatusOr<UploadListing> Finish() && {
    ASSIGN_OR_RETURN(const bool truncated, ParseTruncated(truncated_));
    if (truncated) {
      ASSIGN_OR_RETURN(std::string key, DecodeKey(next_key_.value_or(""), /*encoded=*/false));
      if (!IsUploadId(next_id_.value_or(""))) {
        return Nonsense("a truncated list without a marker");
      }
      listing_.next = {std::move(key), *std::move(next_id_)};
    }
    return std::move(listing_);
  }

 private:
  Field* At(absl::string_view path) override {
    const std::pair<absl::string_view, Field*> fields[] = {
        {"ListMultipartUploadsResult/Upload/Key", &key_},
        {"ListMultipartUploadsResult/Upload/UploadId", &id_},
        {"ListMultipartUploadsResult/Upload/ChecksumAlgorithm", &algorithm_},
        {"ListMultipartUploadsResult/IsTruncated", &truncated_},
        {"ListMultipartUploadsResult/NextKeyMarker", &next_key_},
        {"ListMultipartUploadsResult/NextUploadIdMarker", &next_id_},
    };
    for (const auto& [name, field] : fields) {
      if (path == name) {
        return field;
      }
    }
    return nullptr;
  }

  void BeginBelow(absl::string_view path) override {
    if (path == "ListMultipartUploadsResult/Upload") {
      key_ = id_ = algorithm_ = std::nullopt;
    }
  }

  absl::Status EndOther(absl::string_view path) override {
    if (path != "ListMultipartUploadsResult/Upload") {
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(std::string key, DecodeKey(key_.value_or(""), /*encoded=*/false));
    if (!IsUploadId(id_.value_or(""))) {
      return Nonsense("an upload without an id");
    }
    listing_.uploads.push_back({std::move(key), *std::move(id_), algorithm_.value_or("")});
    return absl::OkStatus();
  }

  UploadListing listing_;
  Field truncated_;
  Field next_key_;
  Field next_id_;
  // Of the open Upload.
  Field key_;
  Field id_;
  Field algorithm_;
};

class PartFields : public Fields {
 public:
  PartFields() : Fields("ListPartsResult") {}

  absl::StatusOr<PartListing> Finish() && {
    ASSIGN_OR_RETURN(const bool truncated, ParseTruncated(truncated_));
    if (truncated) {
      ASSIGN_OR_RETURN(listing_.next, ParsePartNumber(next_.value_or("")));
      if (listing_.parts.empty() || listing_.next < listing_.parts.back().number) {
        return Nonsense("a list of parts that leads back");
      }
    }
    return std::move(listing_);
  }

 private:
  Field* At(absl::string_view path) override {
    const std::pair<absl::string_view, Field*> fields[] = {
        {"ListPartsResult/Part/PartNumber", &number_},
        {"ListPartsResult/Part/Size", &size_},
        {"ListPartsResult/Part/ETag", &etag_},
        {"ListPartsResult/Part/ChecksumSHA256", &sha256_},
        {"ListPartsResult/IsTruncated", &truncated_},
        {"ListPartsResult/NextPartNumberMarker", &next_},
    };
    for (const auto& [name, field] : fields) {
      if (path == name) {
        return field;
      }
    }
    return nullptr;
  }

  void BeginBelow(absl::string_view path) override {
    if (path == "ListPartsResult/Part") {
      number_ = size_ = etag_ = sha256_ = std::nullopt;
    }
  }

  absl::Status EndOther(absl::string_view path) override {
    if (path != "ListPartsResult/Part") {
      return absl::OkStatus();
    }
    StoredPart part;
    ASSIGN_OR_RETURN(part.number, ParsePartNumber(number_.value_or("")));
    ASSIGN_OR_RETURN(part.size, ParseSize(size_.value_or("")));
    part.etag = etag_.value_or("");
    if (!IsEtag(part.etag) ||
        part.number <= (listing_.parts.empty() ? 0 : listing_.parts.back().number)) {
      return Nonsense("a part that lacks its ETag or is out of order");
    }
    if (sha256_.has_value()) {
      std::optional<S3Checksum> sha256 = ParseS3Checksum(ChecksumKind::kSha256, *sha256_);
      if (!sha256.has_value() || sha256->parts != 0) {
        return Nonsense("a malformed checksum of a part");
      }
      part.sha256 = std::move(sha256->value);
    }
    listing_.parts.push_back(std::move(part));
    return absl::OkStatus();
  }

  PartListing listing_;
  Field truncated_;
  Field next_;
  // Of the open Part.
  Field number_;
  Field size_;
  Field etag_;
  Field sha256_;
};

class CompletionFields : public Fields {
 public:
  CompletionFields() : Fields("CompleteMultipartUploadResult") {}

  Completion Finish() && {
    return {.etag = std::move(etag_).value_or(""),
            .sha256 = ParseS3Checksum(ChecksumKind::kSha256, sha256_.value_or(""))};
  }

 private:
  Field* At(absl::string_view path) override {
    return path == "CompleteMultipartUploadResult/ETag"             ? &etag_
           : path == "CompleteMultipartUploadResult/ChecksumSHA256" ? &sha256_
                                                                    : nullptr;
  }

  Field etag_;
  Field sha256_;
};

}  // namespace

absl::StatusOr<std::vector<ByteRange>> CutParts(uint64_t object_bytes, uint64_t wanted) {
  const uint64_t least = object_bytes / kMostParts + (object_bytes % kMostParts == 0 ? 0 : 1);
  const uint64_t size = least <= wanted ? wanted : AlignUp(least, kPartStep);
  if (size > kLargestPart) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(object_bytes, " bytes are more than 10,000 parts of 5 GiB"),
                 "cut the model into shards");
  }
  std::vector<ByteRange> parts;
  for (uint64_t begin = 0; begin < object_bytes || parts.empty(); begin += size) {
    parts.push_back({begin, std::min(object_bytes, begin + size)});
  }
  return parts;
}

absl::StatusOr<std::string> ParseCreatedUpload(absl::string_view document) {
  CreationFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

absl::StatusOr<UploadListing> ParseUploadListing(absl::string_view document) {
  UploadFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

absl::StatusOr<PartListing> ParsePartListing(absl::string_view document) {
  PartFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

absl::StatusOr<Completion> ParseCompletion(absl::string_view document) {
  CompletionFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

std::string CompletionOf(absl::Span<const StoredPart> parts, bool with_checksums) {
  std::string text = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
  for (const StoredPart& part : parts) {
    absl::StrAppend(&text, "<Part>");
    if (with_checksums) {
      absl::StrAppend(&text, "<ChecksumSHA256>", absl::Base64Escape(part.sha256),
                      "</ChecksumSHA256>");
    }
    // Without quotes, which stores take as well. What isn't hexadecimal is of the store's making.
    const absl::string_view etag = absl::StripPrefix(absl::StripSuffix(part.etag, "\""), "\"");
    absl::StrAppend(&text, "<ETag>",
                    absl::StrReplaceAll(etag, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}}),
                    "</ETag><PartNumber>", part.number, "</PartNumber></Part>");
  }
  return absl::StrCat(text, "</CompleteMultipartUpload>");
}

std::string Sha256OfParts(absl::Span<const StoredPart> parts) {
  std::string all;
  for (const StoredPart& part : parts) {
    absl::StrAppend(&all, part.sha256);
  }
  return HashOf(ChecksumKind::kSha256, all);
}

std::optional<std::string> EtagOf(absl::Span<const StoredPart> parts) {
  std::string all;
  for (const StoredPart& part : parts) {
    const absl::string_view hex = absl::StripPrefix(absl::StripSuffix(part.etag, "\""), "\"");
    if (hex.size() != 2 * kMd5Bytes || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
      return std::nullopt;
    }
    absl::StrAppend(&all, absl::HexStringToBytes(hex));
  }
  return absl::StrCat("\"", absl::BytesToHexString(Md5Of(all)), "-", parts.size(), "\"");
}

}  // namespace weightd::source
