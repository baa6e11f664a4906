#include "daemon/source/s3/s3_list.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/s3/s3_fields.h"
#include "daemon/source/xml_reader.h"

namespace weightd::source {
namespace {

// Tokens have no documented bound.
constexpr size_t kMaxToken = 4096;
// RFC 1035, section 2.3.4, and a port.
constexpr size_t kMaxHost = 253 + 6;
constexpr size_t kMaxCode = 64;

class ListingFields : public Fields {
 public:
  ListingFields() : Fields("ListBucketResult") {}

  absl::StatusOr<S3Listing> Finish() && {
    ASSIGN_OR_RETURN(const bool truncated, ParseTruncated(is_truncated_));
    listing_.continuation_token = next_token_.value_or("");
    if (truncated == listing_.continuation_token.empty() ||
        listing_.continuation_token.size() > kMaxToken) {
      return Nonsense("a continuation token that is missing, unasked for or too long");
    }
    if (encoding_.has_value() && encoding_ != "url") {
      return Nonsense("an unknown encoding of keys");
    }
    for (S3Object& object : listing_.objects) {
      ASSIGN_OR_RETURN(object.key, DecodeKey(object.key, encoding_.has_value()));
    }
    for (std::string& prefix : listing_.common_prefixes) {
      ASSIGN_OR_RETURN(prefix, DecodeKey(prefix, encoding_.has_value()));
    }
    return std::move(listing_);
  }

 private:
  Field* At(absl::string_view path) override {
    const std::pair<absl::string_view, Field*> fields[] = {
        {"ListBucketResult/Contents/Key", &key_},
        {"ListBucketResult/Contents/Size", &size_},
        {"ListBucketResult/Contents/ETag", &etag_},
        {"ListBucketResult/CommonPrefixes/Prefix", &prefix_},
        {"ListBucketResult/IsTruncated", &is_truncated_},
        {"ListBucketResult/NextContinuationToken", &next_token_},
        {"ListBucketResult/EncodingType", &encoding_},
    };
    for (const auto& [name, field] : fields) {
      if (path == name) {
        return field;
      }
    }
    return nullptr;
  }

  void BeginBelow(absl::string_view path) override {
    if (path == "ListBucketResult/Contents" || path == "ListBucketResult/CommonPrefixes") {
      key_ = size_ = etag_ = prefix_ = std::nullopt;
    }
  }

  absl::Status EndOther(absl::string_view path) override {
    if (path == "ListBucketResult/Contents") {
      return AddObject();
    }
    if (path == "ListBucketResult/CommonPrefixes") {
      if (!prefix_.has_value()) {
        return Nonsense("a common prefix without text");
      }
      listing_.common_prefixes.push_back(*std::move(prefix_));
    }
    return absl::OkStatus();
  }

  absl::Status AddObject() {
    if (!key_.has_value() || !size_.has_value() || !etag_.has_value()) {
      return Nonsense("an object that lacks key, size or ETag");
    }
    if (!IsEtag(*etag_)) {
      return Nonsense("a malformed ETag");
    }
    ASSIGN_OR_RETURN(const uint64_t size, ParseSize(*size_));
    listing_.objects.push_back({*std::move(key_), size, *std::move(etag_)});
    return absl::OkStatus();
  }

  S3Listing listing_;
  Field is_truncated_;
  Field next_token_;
  Field encoding_;
  // Of the open Contents or CommonPrefixes.
  Field key_;
  Field size_;
  Field etag_;
  Field prefix_;
};

class ErrorFields : public Fields {
 public:
  ErrorFields() : Fields("Error") {}

  absl::StatusOr<S3Error> Finish() && {
    if (!code_.has_value() || code_->empty()) {
      return Nonsense("an error without a code");
    }
    S3Error error = {*std::move(code_), region_.value_or(""), endpoint_.value_or("")};
    if (!HoldsOnly(error.code, "-.", kMaxCode) || !HoldsOnly(error.region, "-", kMaxCode) ||
        !HoldsOnly(error.endpoint, "-.:", kMaxHost)) {
      return Nonsense("a malformed code, region or endpoint");
    }
    return error;
  }

 private:
  Field* At(absl::string_view path) override {
    return path == "Error/Code"       ? &code_
           : path == "Error/Region"   ? &region_
           : path == "Error/Endpoint" ? &endpoint_
                                      : nullptr;
  }

  // Letters, digits and `others`.
  static bool HoldsOnly(absl::string_view text, absl::string_view others, size_t max) {
    return text.size() <= max && std::all_of(text.begin(), text.end(), [&](char c) {
             return absl::ascii_isalnum(c) || absl::StrContains(others, c);
           });
  }

  Field code_;
  Field region_;
  Field endpoint_;
};

}  // namespace

absl::StatusOr<S3Listing> ParseS3Listing(absl::string_view document) {
  if (document.size() > kMaxListingBytes) {
    return Nonsense("more than 8 MiB");
  }
  ListingFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

absl::StatusOr<S3Error> ParseS3Error(absl::string_view document) {
  if (document.size() > kMaxS3ErrorBytes) {
    return Nonsense("an error of more than 64 KiB");
  }
  ErrorFields fields;
  RETURN_IF_ERROR(ReadXml(document, fields));
  return std::move(fields).Finish();
}

}  // namespace weightd::source
