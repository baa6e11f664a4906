#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/source/percent_encoding.h"
#include "daemon/source/s3_list.h"
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

}  // namespace weightd::fuzz
