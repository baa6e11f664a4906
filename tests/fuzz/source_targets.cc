#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/source/percent_encoding.h"
#include "daemon/source/s3/s3_list.h"
#include "daemon/source/s3/s3_multipart.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

// As text of XML; all of ASCII but letters and digits by number.
std::string Escaped(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isascii(c) && !absl::ascii_isalnum(c)) {
      absl::StrAppend(&out, "&#", int{c}, ";");
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string Written(const source::S3Listing& listing) {
  std::string out = absl::StrCat("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>",
                                 listing.IsTruncated() ? "true" : "false", "</IsTruncated>");
  if (listing.IsTruncated()) {
    absl::StrAppend(&out, "<NextContinuationToken>", Escaped(listing.continuation_token),
                    "</NextContinuationToken>");
  }
  for (const source::S3Object& object : listing.objects) {
    absl::StrAppend(&out, "<Contents><Key>", source::PercentEncode(object.key), "</Key><Size>",
                    object.size, "</Size><ETag>", Escaped(object.etag), "</ETag></Contents>");
  }
  for (const std::string& prefix : listing.common_prefixes) {
    absl::StrAppend(&out, "<CommonPrefixes><Prefix>", source::PercentEncode(prefix),
                    "</Prefix></CommonPrefixes>");
  }
  return absl::StrCat(out, "</ListBucketResult>");
}

void RequireKey(const std::string& key) {
  Require(!key.empty() && key.size() <= 1024, "keys have 1 to 1024 bytes");
  Require(!FirstInvalidUtf8(key).has_value(), "keys are UTF-8");
}

void RequireRefusal(const absl::Status& status) {
  Require(ReasonOf(status) == Reason::kSourceProtocol, "a refused answer breaks the protocol");
}

std::string Written(const source::UploadListing& listing) {
  std::string out = absl::StrCat("<ListMultipartUploadsResult><IsTruncated>",
                                 listing.next.has_value() ? "true" : "false", "</IsTruncated>");
  if (listing.next.has_value()) {
    absl::StrAppend(&out, "<NextKeyMarker>", Escaped(listing.next->first),
                    "</NextKeyMarker><NextUploadIdMarker>", Escaped(listing.next->second),
                    "</NextUploadIdMarker>");
  }
  for (const source::UnfinishedUpload& upload : listing.uploads) {
    absl::StrAppend(&out, "<Upload><Key>", Escaped(upload.key), "</Key><UploadId>",
                    Escaped(upload.id), "</UploadId><ChecksumAlgorithm>",
                    Escaped(upload.checksum_algorithm), "</ChecksumAlgorithm></Upload>");
  }
  return absl::StrCat(out, "</ListMultipartUploadsResult>");
}

std::string Written(const source::PartListing& listing) {
  std::string out = absl::StrCat("<ListPartsResult><IsTruncated>",
                                 listing.next != 0 ? "true" : "false", "</IsTruncated>",
                                 "<NextPartNumberMarker>", listing.next, "</NextPartNumberMarker>");
  for (const source::StoredPart& part : listing.parts) {
    absl::StrAppend(&out, "<Part><PartNumber>", part.number, "</PartNumber><Size>", part.size,
                    "</Size><ETag>", Escaped(part.etag), "</ETag>");
    if (!part.sha256.empty()) {
      absl::StrAppend(&out, "<ChecksumSHA256>", absl::Base64Escape(part.sha256),
                      "</ChecksumSHA256>");
    }
    absl::StrAppend(&out, "</Part>");
  }
  return absl::StrCat(out, "</ListPartsResult>");
}

}  // namespace

void S3Answers(absl::string_view input) {
  const auto error = source::ParseS3Error(input);
  const auto listing = source::ParseS3Listing(input);
  Require(!error.ok() || !listing.ok(), "an answer is an error or a listing");
  if (error.ok()) {
    Require(!error->code.empty(), "an error has a code");
    Require(!absl::StrContains(absl::StrCat(error->code, error->region, error->endpoint), "/"),
            "an error names no path");
  } else {
    RequireRefusal(error.status());
  }
  if (!listing.ok()) {
    return RequireRefusal(listing.status());
  }
  for (const source::S3Object& object : listing->objects) {
    RequireKey(object.key);
    Require(!absl::StrContains(object.etag, "\n"), "an ETag fits into a header");
  }
  for (const std::string& prefix : listing->common_prefixes) {
    RequireKey(prefix);
  }
  const auto again = source::ParseS3Listing(Written(*listing));
  Require(again.ok() && *again == *listing, "a listing written anew reads the same");
  Require(!source::ParseS3Listing(absl::StrCat("<!DOCTYPE ListBucketResult>", input)).ok(),
          "no document has a type");
}

void S3UploadAnswers(absl::string_view input) {
  const auto id = source::ParseCreatedUpload(input);
  const auto uploads = source::ParseUploadListing(input);
  const auto parts = source::ParsePartListing(input);
  const absl::Status completion = source::ParseCompletion(input).status();
  Require(id.ok() + uploads.ok() + parts.ok() + completion.ok() <= 1, "an answer is of one kind");
  for (const absl::Status& status : {id.status(), uploads.status(), parts.status(), completion}) {
    if (!status.ok()) {
      RequireRefusal(status);
    }
  }
  if (id.ok()) {
    Require(!id->empty() && !absl::StrContains(*id, " ") && !absl::StrContains(*id, "\n"),
            "an upload's id is visible ASCII");
  }
  if (uploads.ok()) {
    for (const source::UnfinishedUpload& upload : uploads->uploads) {
      RequireKey(upload.key);
    }
    const auto again = source::ParseUploadListing(Written(*uploads));
    Require(again.ok() && *again == *uploads, "a list of uploads written anew reads the same");
  }
  if (parts.ok()) {
    uint32_t last = 0;
    for (const source::StoredPart& part : parts->parts) {
      Require(part.number > last && part.number <= source::kMostParts, "parts are in order");
      Require(part.sha256.empty() || part.sha256.size() == 32, "a SHA-256 has 32 bytes");
      last = part.number;
    }
    Require(parts->next == 0 || parts->next >= last, "a list of parts leads on");
    const auto again = source::ParsePartListing(Written(*parts));
    Require(again.ok() && *again == *parts, "a list of parts written anew reads the same");
  }
}

}  // namespace weightd::fuzz
