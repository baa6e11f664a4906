#include "daemon/source/s3/s3_object_upload.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/checksum.h"

namespace weightd::source {
namespace {

constexpr size_t kMd5Digits = 32;

std::string EtagOfMd5(const std::string& md5) {
  return absl::StrCat("\"", absl::BytesToHexString(md5), "\"");
}

absl::string_view WithoutQuotes(absl::string_view etag) {
  return absl::StripPrefix(absl::StripSuffix(etag, "\""), "\"");
}

// Whether an object that was stored in so many parts could have this ETag: the digits of an MD5,
// and the number of parts if it is not one.
bool TellsOfParts(absl::string_view etag, size_t parts) {
  etag = WithoutQuotes(etag);
  const absl::string_view digits = etag.substr(0, kMd5Digits);
  return digits.size() == kMd5Digits &&
         std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit) &&
         etag.substr(kMd5Digits) == (parts == 1 ? "" : absl::StrCat("-", parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ObjectUpload>> ObjectUpload::Make(LocalFile file, Uri object,
                                                                 uint64_t part_bytes) {
  ASSIGN_OR_RETURN(const std::vector<ByteRange> ranges, CutParts(file.size(), part_bytes));
  std::vector<Part> parts;
  parts.reserve(ranges.size());
  for (const ByteRange range : ranges) {
    parts.push_back({.range = range});
  }
  return std::unique_ptr<ObjectUpload>(
      new ObjectUpload(std::move(file), std::move(object), std::move(parts)));
}

absl::Status ObjectUpload::Survey(S3Client& client, Cancellation& cancellation) {
  absl::StatusOr<std::optional<ObjectFacts>> facts = HeadObject(client, object_, cancellation);
  if (!facts.ok()) {
    // Who may only write is told nothing. If it is the key that is wrong, writing will tell.
    survey_ = Found::kUnknown;
    return SaysNothing(facts.status()) ? absl::OkStatus() : facts.status();
  }
  if (!facts->has_value()) {
    survey_ = Found::kNothing;
    return absl::OkStatus();
  }
  facts_ = **std::move(facts);
  survey_ = IsComparable(facts_) ? Found::kComparable : Found::kOther;
  return absl::OkStatus();
}

bool ObjectUpload::IsComparable(const ObjectFacts& facts) const {
  return facts.size == file_.size() &&
         (HasSha256(facts) || TellsOfParts(facts.etag, parts_.size()));
}

// Of an object that is cut as ours.
bool ObjectUpload::HasSha256(const ObjectFacts& facts) const {
  return facts.sha256.has_value() &&
         facts.sha256->parts == (parts_.size() == 1 ? 0 : parts_.size());
}

// As a store states it, when all parts are digested.
std::string ObjectUpload::Sha256() const {
  if (parts_.size() == 1) {
    return parts_.front().digest.sha256;
  }
  std::vector<StoredPart> digests;
  digests.reserve(parts_.size());
  for (const Part& part : parts_) {
    digests.push_back({.sha256 = part.digest.sha256});
  }
  return Sha256OfParts(digests);
}

absl::Status ObjectUpload::ComparePart(size_t index, Cancellation& cancellation) {
  return Digest(parts_[index], /*with_md5=*/true, cancellation);
}

bool ObjectUpload::IsThere() const {
  if (survey_ != Found::kComparable) {
    return false;
  }
  if (HasSha256(facts_)) {
    return facts_.sha256->value == Sha256();
  }
  std::vector<StoredPart> md5s;
  md5s.reserve(parts_.size());
  for (const Part& part : parts_) {
    md5s.push_back({.etag = EtagOfMd5(part.digest.md5)});
  }
  return absl::AsciiStrToLower(facts_.etag) ==
         (parts_.size() == 1 ? md5s.front().etag : EtagOf(md5s));
}

absl::Status ObjectUpload::Begin(S3Client& client, Cancellation& cancellation) {
  if (parts_.size() == 1) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Resume(client, cancellation));
  if (!upload_.has_value()) {
    ASSIGN_OR_RETURN(upload_, CreateUpload(client, object_, cancellation));
  }
  return absl::OkStatus();
}

// Takes up the first unfinished upload that is cut as ours; others of the same object are aborted,
// for their parts cost money and nobody will need them. A store that can't say what it has, or
// doesn't want to, gets all parts.
absl::Status ObjectUpload::Resume(S3Client& client, Cancellation& cancellation) {
  absl::StatusOr<std::vector<UnfinishedUpload>> found = FindUploads(client, object_, cancellation);
  if (SaysNothing(found.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(found.status());
  for (UnfinishedUpload& upload : *found) {
    absl::StatusOr<std::vector<StoredPart>> stored =
        ListParts(client, object_, upload, cancellation);
    if (ReasonOf(stored.status()) == Reason::kModelNotFound) {
      continue;
    }
    if (!stored.ok() && !SaysNothing(stored.status())) {
      return stored.status();
    }
    const bool known = upload.checksum_algorithm.empty() || upload.checksum_algorithm == "SHA256";
    if (!stored.ok() || upload_.has_value() || !known || !Fits(*stored)) {
      RETURN_IF_ERROR(AbortUpload(client, object_, upload, cancellation));
      continue;
    }
    upload_ = std::move(upload);
    for (StoredPart& part : *stored) {
      parts_[part.number - 1].stored = std::move(part);
    }
  }
  return absl::OkStatus();
}

bool ObjectUpload::Fits(const std::vector<StoredPart>& stored) const {
  return std::all_of(stored.begin(), stored.end(), [this](const StoredPart& part) {
    return part.number <= parts_.size() && part.size == PartBytes(part.number - 1);
  });
}

// Whether the part that the store has is what the file holds.
absl::StatusOr<bool> ObjectUpload::IsStored(Part& part, Cancellation& cancellation) {
  if (!part.stored.has_value()) {
    return false;
  }
  const std::string said = std::move(part.stored->sha256);
  RETURN_IF_ERROR(Digest(part, /*with_md5=*/said.empty(), cancellation));
  part.stored->sha256 = part.digest.sha256;
  return said.empty() ? absl::AsciiStrToLower(part.stored->etag) == EtagOfMd5(part.digest.md5)
                      : said == part.digest.sha256;
}

absl::Status ObjectUpload::SendPart(size_t index, S3Client& client, std::atomic<uint64_t>& sent,
                                    Cancellation& cancellation) {
  Part& part = parts_[index];
  if (parts_.size() == 1) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const bool is_stored, IsStored(part, cancellation));
  if (is_stored) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Digest(part, /*with_md5=*/false, cancellation));
  ASSIGN_OR_RETURN(const HttpBody body, BodyOf(part, sent));
  absl::StatusOr<StoredPart> stored =
      PutPart(client, object_, *upload_, static_cast<uint32_t>(index + 1), body, part.digest.sha256,
              cancellation);
  // What changed on its way out is refused by the store; that is not the store's fault.
  RETURN_IF_ERROR(file_.CheckUnchanged());
  if (ReasonOf(stored.status()) == Reason::kModelNotFound) {
    return Error(Reason::kSourceChanged,
                 absl::StrCat(object_.Redacted(), ": somebody else ended its upload"),
                 "push it again, once at a time");
  }
  RETURN_IF_ERROR(stored.status());
  part.stored = *std::move(stored);
  bytes_sent_ += part.range.size();
  return absl::OkStatus();
}

absl::Status ObjectUpload::Finish(S3Client& client, Cancellation& cancellation) {
  RETURN_IF_ERROR(file_.CheckUnchanged());
  if (parts_.size() == 1) {
    Part& part = parts_.front();
    RETURN_IF_ERROR(Digest(part, /*with_md5=*/false, cancellation));
    std::atomic<uint64_t> sent = 0;
    ASSIGN_OR_RETURN(const HttpBody body, BodyOf(part, sent));
    ASSIGN_OR_RETURN(etag_, PutObject(client, object_, body, part.digest.sha256, cancellation));
    bytes_sent_ = part.range.size();
    return file_.CheckUnchanged();
  }
  std::vector<StoredPart> stored;
  stored.reserve(parts_.size());
  for (const Part& part : parts_) {
    stored.push_back(*part.stored);
  }
  ASSIGN_OR_RETURN(etag_, CompleteUpload(client, object_, *upload_, stored, cancellation));
  upload_.reset();
  return absl::OkStatus();
}

absl::Status ObjectUpload::CheckStored(S3Client& client, Cancellation& cancellation) {
  const absl::StatusOr<std::optional<ObjectFacts>> facts =
      HeadObject(client, object_, cancellation);
  if (!facts.ok()) {
    return SaysNothing(facts.status()) ? absl::OkStatus() : facts.status();
  }
  return facts->has_value() && IsOurs(**facts)
             ? absl::OkStatus()
             : Error(Reason::kSourceChanged,
                     absl::StrCat(object_.Redacted(), ": somebody else changed it meanwhile"),
                     "push it again, once at a time");
}

// By its checksum, or else by the ETag that the store gave to ours.
bool ObjectUpload::IsOurs(const ObjectFacts& facts) const {
  if (HasSha256(facts)) {
    return facts.sha256->value == Sha256();
  }
  const std::string& etag = IsThere() ? facts_.etag : etag_;
  return etag.empty() || facts.etag.empty() ||
         absl::EqualsIgnoreCase(WithoutQuotes(etag), WithoutQuotes(facts.etag));
}

absl::Status ObjectUpload::Abort(S3Client& client, Cancellation& cancellation) {
  if (!upload_.has_value()) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(AbortUpload(client, object_, *upload_, cancellation));
  upload_.reset();
  return absl::OkStatus();
}

// Once for each kind.
absl::Status ObjectUpload::Digest(Part& part, bool with_md5, Cancellation& cancellation) {
  if (part.digest.sha256.empty() || (with_md5 && part.digest.md5.empty())) {
    ASSIGN_OR_RETURN(part.digest, DigestOf(file_, part.range, with_md5, cancellation));
  }
  return absl::OkStatus();
}

absl::StatusOr<HttpBody> ObjectUpload::BodyOf(const Part& part, std::atomic<uint64_t>& sent) const {
  ASSIGN_OR_RETURN(Fd opened, file_.Open());
  const auto descriptor = std::make_shared<const Fd>(std::move(opened));
  return HttpBody{.size = part.range.size(),
                  .read = [this, descriptor, begin = part.range.begin, &sent](
                              uint64_t offset, absl::Span<char> space) {
                    sent = offset + space.size();
                    return file_.Read(*descriptor, begin + offset, space);
                  }};
}

}  // namespace weightd::source
