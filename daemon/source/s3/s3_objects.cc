#include "daemon/source/s3/s3_objects.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/percent_encoding.h"
#include "daemon/source/s3/s3_checksums.h"
#include "daemon/source/s3/s3_fields.h"

namespace weightd::source {
namespace {

// Of 1,000 entries each.
constexpr int kMostListings = 11;
// A store may take minutes to put a large object together.
constexpr absl::Duration kCompletionTimeout = absl::Minutes(10);

absl::StatusOr<Uri> WithQuery(const Uri& object, absl::string_view query) {
  return Uri::Parse(absl::StrCat(object.ToString(), "?", query));
}

std::string IdQuery(const UnfinishedUpload& upload) {
  return absl::StrCat("uploadId=", PercentEncode(upload.id));
}

bool KeepsChecksums(const UnfinishedUpload& upload) {
  return upload.checksum_algorithm == "SHA256";
}

std::vector<Header> ChecksumHeaders(const std::string& sha256) {
  return {{"x-amz-checksum-sha256", absl::Base64Escape(sha256)},
          {"x-amz-sdk-checksum-algorithm", "SHA256"}};
}

absl::Status IgnoreAbsence(absl::StatusOr<HttpAnswer> answer) {
  return ReasonOf(answer.status()) == Reason::kModelNotFound ? absl::OkStatus() : answer.status();
}

absl::Status TooLong(const Uri& object) {
  return Error(Reason::kSourceProtocol,
               absl::StrCat(object.Redacted(), ": a list of uploads without an end"),
               "look at the store");
}

// What was read of an answer; an error says what was asked, too.
template <typename T>
absl::StatusOr<T> AnswerTo(absl::string_view operation, const Uri& object, absl::StatusOr<T> read) {
  return read.ok() ? std::move(read)
                   : Annotate(read.status(), absl::StrCat(object.Redacted(), ": ", operation));
}

std::optional<S3Checksum> StatedSha256(const Answer& answer) {
  for (const StatedChecksum& stated : StatedChecksums(answer)) {
    if (stated.kind == ChecksumKind::kSha256) {
      return stated.checksum;
    }
  }
  return std::nullopt;
}

// Whether an object is the one that was to be made of these parts.
bool IsMadeOf(const ObjectFacts& facts, absl::Span<const StoredPart> parts) {
  if (facts.sha256.has_value() && facts.sha256->parts == parts.size()) {
    return facts.sha256->value == Sha256OfParts(parts);
  }
  const std::optional<std::string> etag = EtagOf(parts);
  return etag.has_value() && absl::EqualsIgnoreCase(facts.etag, *etag);
}

// kVerificationFailed if the store says that what it took of us, in so many parts, is something
// else; a checksum of another cut tells nothing.
absl::Status CheckTaken(const Uri& object, const std::optional<S3Checksum>& said,
                        absl::string_view sha256, size_t parts) {
  if (!said.has_value() || said->parts != parts || said->value == sha256) {
    return absl::OkStatus();
  }
  return Error(Reason::kVerificationFailed,
               absl::StrCat(object.Redacted(), ": the store says that it took SHA-256 ",
                            ShowDigest(said->value, said->parts), ", and it was sent ",
                            ShowDigest(sha256, said->parts)),
               "push it again; if it stays, look at the store and at proxies on the way to it");
}

absl::StatusOr<Completion> AskForCompletion(S3Client& client, const Uri& object,
                                            const UnfinishedUpload& upload,
                                            absl::Span<const StoredPart> parts,
                                            Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Uri uri, WithQuery(object, IdQuery(upload)));
  const std::string text = CompletionOf(parts, KeepsChecksums(upload));
  ASSIGN_OR_RETURN(const HttpAnswer answer,
                   client.Call({.method = "POST",
                                .uri = uri,
                                .body = BodyOf(text),
                                .sha256 = HashOf(ChecksumKind::kSha256, text),
                                .stall_timeout = kCompletionTimeout},
                               cancellation));
  return AnswerTo("CompleteMultipartUpload", object, ParseCompletion(answer.body));
}

}  // namespace

bool SaysNothing(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kSourceDenied || reason == Reason::kSourceProtocol;
}

absl::StatusOr<std::optional<ObjectFacts>> HeadObject(S3Client& client, const Uri& object,
                                                      Cancellation& cancellation) {
  const S3Request question = {
      .method = "HEAD", .uri = object, .headers = {{"x-amz-checksum-mode", "ENABLED"}}};
  absl::StatusOr<HttpAnswer> answer = client.Call(question, cancellation);
  if (SaysNothing(answer.status())) {
    // The refusal of a HEAD has no body that says why; a GET is told, and what there is to learn of
    // region, clock and key is learnt.
    answer = client.Call({.method = "GET", .uri = object, .headers = {{"Range", "bytes=0-0"}}},
                         cancellation);
    // 416: it is empty.
    if (answer.ok() || ReasonOf(answer.status()) == Reason::kSourceChanged) {
      answer = client.Call(question, cancellation);
    }
  }
  if (ReasonOf(answer.status()) == Reason::kModelNotFound) {
    return std::nullopt;
  }
  RETURN_IF_ERROR(answer.status());
  ObjectFacts facts;
  facts.size = answer->head.content_length.value_or(0);
  facts.etag = answer->head.etag;
  facts.sha256 = StatedSha256(answer->head);
  return facts;
}

absl::StatusOr<std::optional<std::string>> GetObject(S3Client& client, const Uri& object,
                                                     uint64_t most_bytes,
                                                     Cancellation& cancellation) {
  absl::StatusOr<HttpAnswer> answer =
      client.Call({.method = "GET", .uri = object, .most_answer_bytes = most_bytes}, cancellation);
  if (ReasonOf(answer.status()) == Reason::kModelNotFound) {
    return std::nullopt;
  }
  RETURN_IF_ERROR(answer.status());
  return std::move(answer->body);
}

absl::StatusOr<std::string> PutObject(S3Client& client, const Uri& object, const HttpBody& body,
                                      const std::string& sha256, Cancellation& cancellation) {
  ASSIGN_OR_RETURN(HttpAnswer answer, client.Call({.method = "PUT",
                                                   .uri = object,
                                                   .headers = ChecksumHeaders(sha256),
                                                   .body = body,
                                                   .sha256 = sha256},
                                                  cancellation));
  RETURN_IF_ERROR(CheckTaken(object, StatedSha256(answer.head), sha256, /*parts=*/0));
  return std::move(answer.head.etag);
}

absl::StatusOr<UnfinishedUpload> CreateUpload(S3Client& client, const Uri& object,
                                              Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Uri uri, WithQuery(object, "uploads="));
  ASSIGN_OR_RETURN(
      const HttpAnswer answer,
      client.Call(
          {.method = "POST", .uri = uri, .headers = {{"x-amz-checksum-algorithm", "SHA256"}}},
          cancellation));
  UnfinishedUpload upload;
  upload.key = object.DecodedPath().substr(1);
  ASSIGN_OR_RETURN(upload.id,
                   AnswerTo("CreateMultipartUpload", object, ParseCreatedUpload(answer.body)));
  upload.checksum_algorithm = "SHA256";
  return upload;
}

absl::StatusOr<std::vector<UnfinishedUpload>> FindUploads(S3Client& client, const Uri& object,
                                                          Cancellation& cancellation) {
  const std::string key = object.DecodedPath().substr(1);
  std::vector<UnfinishedUpload> found;
  std::string marker;
  for (int i = 0; i < kMostListings; ++i) {
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(absl::StrCat("s3://", object.authority(),
                                                            "/?prefix=", PercentEncode(key),
                                                            "&uploads=", marker)));
    ASSIGN_OR_RETURN(const HttpAnswer answer,
                     client.Call({.method = "GET", .uri = uri}, cancellation));
    ASSIGN_OR_RETURN(UploadListing listing,
                     AnswerTo("ListMultipartUploads", object, ParseUploadListing(answer.body)));
    for (UnfinishedUpload& upload : listing.uploads) {
      if (upload.key == key) {
        found.push_back(std::move(upload));
      }
    }
    // In the order of the keys, ours is the first of those that begin with it.
    if (!listing.next.has_value() || listing.next->first != key) {
      return found;
    }
    marker = absl::StrCat("&key-marker=", PercentEncode(listing.next->first),
                          "&upload-id-marker=", PercentEncode(listing.next->second));
  }
  return TooLong(object);
}

absl::StatusOr<std::vector<StoredPart>> ListParts(S3Client& client, const Uri& object,
                                                  const UnfinishedUpload& upload,
                                                  Cancellation& cancellation) {
  std::vector<StoredPart> parts;
  uint32_t marker = 0;
  for (int i = 0; i < kMostListings; ++i) {
    ASSIGN_OR_RETURN(const Uri uri, WithQuery(object, absl::StrCat("part-number-marker=", marker,
                                                                   "&", IdQuery(upload))));
    ASSIGN_OR_RETURN(const HttpAnswer answer,
                     client.Call({.method = "GET", .uri = uri}, cancellation));
    ASSIGN_OR_RETURN(PartListing listing,
                     AnswerTo("ListParts", object, ParsePartListing(answer.body)));
    for (StoredPart& part : listing.parts) {
      if (part.number <= marker) {
        return TooLong(object);
      }
      parts.push_back(std::move(part));
    }
    if (listing.next == 0) {
      return parts;
    }
    marker = listing.next;
  }
  return TooLong(object);
}

absl::StatusOr<StoredPart> PutPart(S3Client& client, const Uri& object,
                                   const UnfinishedUpload& upload, uint32_t number,
                                   const HttpBody& body, const std::string& sha256,
                                   Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Uri uri,
                   WithQuery(object, absl::StrCat("partNumber=", number, "&", IdQuery(upload))));
  S3Request request = {.method = "PUT", .uri = uri, .body = body, .sha256 = sha256};
  if (KeepsChecksums(upload)) {
    request.headers = ChecksumHeaders(sha256);
  }
  ASSIGN_OR_RETURN(const HttpAnswer answer, client.Call(request, cancellation));
  if (!IsEtag(answer.head.etag)) {
    return Error(Reason::kSourceProtocol,
                 absl::StrCat(object.Redacted(), ": the store took a part without a proper ETag"),
                 "check that the endpoint speaks S3");
  }
  RETURN_IF_ERROR(CheckTaken(object, StatedSha256(answer.head), sha256, /*parts=*/0));
  return StoredPart{number, body.size, answer.head.etag, sha256};
}

absl::StatusOr<std::string> CompleteUpload(S3Client& client, const Uri& object,
                                           const UnfinishedUpload& upload,
                                           absl::Span<const StoredPart> parts,
                                           Cancellation& cancellation) {
  absl::StatusOr<Completion> completion =
      AskForCompletion(client, object, upload, parts, cancellation);
  if (completion.ok()) {
    RETURN_IF_ERROR(CheckTaken(object, completion->sha256, Sha256OfParts(parts), parts.size()));
    return std::move(completion->etag);
  }
  RETURN_IF_ERROR(cancellation.status());
  // A try whose answer was lost may have completed it, whatever the last one was told.
  const auto there = HeadObject(client, object, cancellation);
  if (there.ok() && there->has_value() && IsMadeOf(**there, parts)) {
    return (*there)->etag;
  }
  if (ReasonOf(completion.status()) != Reason::kModelNotFound) {
    return completion.status();
  }
  if (!there.ok() && !SaysNothing(there.status())) {
    return there.status();
  }
  return Error(Reason::kSourceChanged,
               absl::StrCat(object.Redacted(), ": somebody else ended its upload"),
               "push it again, once at a time");
}

absl::Status AbortUpload(S3Client& client, const Uri& object, const UnfinishedUpload& upload,
                         Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Uri uri, WithQuery(object, IdQuery(upload)));
  return IgnoreAbsence(client.Call({.method = "DELETE", .uri = uri}, cancellation));
}

}  // namespace weightd::source
