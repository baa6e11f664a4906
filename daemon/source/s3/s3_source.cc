#include "daemon/source/s3/s3_source.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/http/http_reader.h"
#include "daemon/source/percent_encoding.h"
#include "daemon/source/s3/s3_checksums.h"
#include "daemon/source/s3/s3_dialect.h"
#include "daemon/source/s3/s3_list.h"

namespace weightd::source {
namespace {

constexpr int kMostParts = 100;
constexpr size_t kMostNames = 100'000;

// A reader, and whether it reaches addresses that a client's reads may not.
struct Store {
  std::unique_ptr<HttpReader> reader;
  bool any_address = false;

  ReadPolicy Widened(ReadPolicy policy) const {
    policy.any_address = policy.any_address || any_address;
    return policy;
  }
};

absl::StatusOr<Store> MakeStore(S3Dialect::Options dialect, HttpSourceOptions http) {
  Store store;
  store.any_address = !dialect.location.endpoint.empty();
  ASSIGN_OR_RETURN(store.reader, HttpReader::Make(std::move(http),
                                                  std::make_shared<S3Dialect>(std::move(dialect))));
  return store;
}

absl::Status CheckQuery(const Uri& uri) {
  if (uri.query().empty() ||
      (absl::StartsWith(uri.query(), "versionId=") && !absl::StrContains(uri.query(), '&'))) {
    return absl::OkStatus();
  }
  return Error(Reason::kInvalidUri, absl::StrCat(uri.Redacted(), ": a query that is no versionId"),
               "write s3://bucket/key or s3://bucket/key?versionId=...");
}

// The question for one part of a folder's listing, as the URI of its bucket.
absl::StatusOr<Uri> ListingUri(const Uri& folder, absl::string_view prefix,
                               absl::string_view token) {
  return Uri::Parse(absl::StrCat(
      "s3://", folder.authority(), "/?",
      token.empty() ? "" : "continuation-token=", PercentEncode(token), token.empty() ? "" : "&",
      "delimiter=%2F&encoding-type=url&list-type=2&prefix=", PercentEncode(prefix)));
}

class S3Source final : public Source {
 public:
  S3Source(std::vector<std::vector<std::string>> buckets, std::vector<Store> stores, Store signed_,
           Store unsigned_)
      : buckets_(std::move(buckets)),
        stores_(std::move(stores)),
        elsewhere_signed_(std::move(signed_)),
        elsewhere_unsigned_(std::move(unsigned_)) {}

  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation) override {
    RETURN_IF_ERROR(CheckQuery(uri));
    const Store& store = StoreOf(uri, policy);
    absl::StatusOr<ObjectVersion> version =
        store.reader->Stat(uri, store.Widened(policy), cancellation);
    if (ReasonOf(version.status()) == Reason::kSourceUnavailable &&
        ChooseStore(buckets_, uri) < 0) {
      return Annotate(version.status(),
                      "no store of the configuration names this bucket, and elsewhere");
    }
    return version;
  }

  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy& policy,
                                                Cancellation& cancellation) override;

  bool copies() const override { return true; }

  absl::StatusOr<std::vector<Checksum>> Checksums(const ObjectVersion& object, PartSizes part_sizes,
                                                  const ReadPolicy& policy,
                                                  Cancellation& cancellation) override;

  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation) override {
    if (requests.empty()) {
      return cancellation.status();
    }
    // All of one model, in one bucket.
    const Store& store = StoreOf(requests.front().object->uri, policy);
    for (const ReadRequest& request : requests) {
      if (&StoreOf(request.object->uri, policy) != &store) {
        return Error(Reason::kInvalidArgument, "one read of objects in several stores");
      }
    }
    return store.reader->Read(requests, store.Widened(policy), observer, cancellation);
  }

 private:
  // HttpReader::AskChecksums; nothing if the store doesn't know the question.
  absl::StatusOr<std::optional<std::vector<Answer>>> AskChecksums(
      const ObjectVersion& object, absl::Span<const std::string> queries, const ReadPolicy& policy,
      Cancellation& cancellation);
  // Empty: the store doesn't tell them.
  absl::StatusOr<std::vector<uint64_t>> SizesOfParts(const ObjectVersion& object, uint32_t parts,
                                                     PartSizes part_sizes, const ReadPolicy& policy,
                                                     Cancellation& cancellation);

  const Store& StoreOf(const Uri& uri, const ReadPolicy& policy) const {
    const int index = ChooseStore(buckets_, uri);
    if (index >= 0) {
      return stores_[static_cast<size_t>(index)];
    }
    return policy.any_address ? elsewhere_signed_ : elsewhere_unsigned_;
  }

  const std::vector<std::vector<std::string>> buckets_;
  const std::vector<Store> stores_;
  const Store elsewhere_signed_;
  const Store elsewhere_unsigned_;
};

absl::StatusOr<std::vector<std::string>> S3Source::List(const Uri& folder, const ReadPolicy& policy,
                                                        Cancellation& cancellation) {
  const Store& store = StoreOf(folder, policy);
  std::string prefix = folder.DecodedPath().substr(1);
  if (!prefix.empty() && !absl::EndsWith(prefix, "/")) {
    prefix.push_back('/');
  }
  std::vector<std::string> names;
  std::string token;
  int parts = 0;
  do {
    ASSIGN_OR_RETURN(const Uri question, ListingUri(folder, prefix, token));
    ASSIGN_OR_RETURN(
        const std::string answer,
        store.reader->Fetch(question, kMaxListingBytes, store.Widened(policy), cancellation));
    absl::StatusOr<S3Listing> part = ParseS3Listing(answer);
    if (!part.ok()) {
      return Annotate(part.status(), absl::StrCat(folder.Redacted(), ": ListObjectsV2"));
    }
    for (const S3Object& object : part->objects) {
      absl::string_view name = object.key;
      // The folder itself may be an object, too.
      if (absl::ConsumePrefix(&name, prefix) && !name.empty()) {
        names.emplace_back(name);
      }
    }
    if (++parts > kMostParts || names.size() > kMostNames) {
      return Error(Reason::kSourceProtocol,
                   absl::StrCat(folder.Redacted(), ": a listing without an end"),
                   "name one file, or look at the store");
    }
    token = std::move(part->continuation_token);
  } while (!token.empty());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

bool IsRefusal(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kSourceProtocol || reason == Reason::kSourceDenied;
}

// The refusal of a HEAD has no body that says why: a store that doesn't know the question looks
// like one that minds the region, the clock or the key. A GET is told, and what there is to learn
// is learnt; only a store that lets it through and refuses the question again doesn't know it.
absl::StatusOr<std::optional<std::vector<Answer>>> S3Source::AskChecksums(
    const ObjectVersion& object, absl::Span<const std::string> queries, const ReadPolicy& policy,
    Cancellation& cancellation) {
  const Store& store = StoreOf(object.uri, policy);
  const ReadPolicy widened = store.Widened(policy);
  absl::StatusOr<std::vector<Answer>> answers =
      store.reader->AskChecksums(object, queries, widened, cancellation);
  if (IsRefusal(answers.status())) {
    RETURN_IF_ERROR(store.reader->Stat(object.uri, widened, cancellation).status());
    answers = store.reader->AskChecksums(object, queries, widened, cancellation);
  }
  if (IsRefusal(answers.status())) {
    return std::nullopt;
  }
  return answers;
}

absl::StatusOr<std::vector<Checksum>> S3Source::Checksums(const ObjectVersion& object,
                                                          PartSizes part_sizes,
                                                          const ReadPolicy& policy,
                                                          Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const std::optional<std::vector<Answer>> answers,
                   AskChecksums(object, {""}, policy, cancellation));
  std::vector<Checksum> checksums;
  if (!answers.has_value()) {
    return checksums;
  }
  for (const StatedChecksum& stated : StatedChecksums(answers->front())) {
    Checksum checksum{.kind = stated.kind, .value = stated.checksum.value, .part_sizes = {}};
    if (const uint32_t parts = stated.checksum.parts; parts > 0) {
      ASSIGN_OR_RETURN(checksum.part_sizes,
                       SizesOfParts(object, parts, part_sizes, policy, cancellation));
      if (checksum.part_sizes.empty()) {
        continue;
      }
    }
    checksums.push_back(std::move(checksum));
  }
  return checksums;
}

absl::StatusOr<std::vector<uint64_t>> S3Source::SizesOfParts(const ObjectVersion& object,
                                                             uint32_t parts, PartSizes part_sizes,
                                                             const ReadPolicy& policy,
                                                             Cancellation& cancellation) {
  std::vector<std::string> queries;
  std::vector<uint64_t> sizes;
  uint64_t sum = 0;
  // The first one by itself: most stores that don't know parts are found out with one question.
  for (const uint32_t until : {uint32_t{1}, parts}) {
    queries.clear();
    for (uint32_t part = static_cast<uint32_t>(sizes.size()) + 1; part <= until; ++part) {
      queries.push_back(absl::StrCat("partNumber=", part));
    }
    ASSIGN_OR_RETURN(const std::optional<std::vector<Answer>> answers,
                     AskChecksums(object, queries, policy, cancellation));
    if (!answers.has_value()) {
      return std::vector<uint64_t>();
    }
    for (const Answer& answer : *answers) {
      const std::optional<uint64_t> size = PartSize(answer, parts);
      if (!size.has_value() || *size > object.size - sum) {
        return std::vector<uint64_t>();
      }
      sizes.push_back(*size);
      sum += *size;
    }
    if (until == 1 && part_sizes == PartSizes::kInferred) {
      if (auto inferred = InferPartSizes(object.size, parts, sizes.front()); inferred.has_value()) {
        return *std::move(inferred);
      }
    }
  }
  return sum == object.size ? sizes : std::vector<uint64_t>();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Source>> MakeS3Source(S3SourceOptions options) {
  std::vector<std::vector<std::string>> buckets;
  std::vector<Store> stores;
  for (S3StoreOptions& named : options.stores) {
    HttpSourceOptions http = options.http;
    if (!named.ca_file.empty()) {
      http.ca_file = named.ca_file;
    }
    http.limits = std::move(named.limits);
    http.traffic = named.traffic;
    buckets.push_back(std::move(named.buckets));
    ASSIGN_OR_RETURN(Store store, MakeStore({.location = std::move(named.location),
                                             .credentials = std::move(named.credentials),
                                             .requester_pays = named.requester_pays},
                                            std::move(http)));
    stores.push_back(std::move(store));
  }
  ASSIGN_OR_RETURN(
      Store with_credentials,
      MakeStore({.location = options.elsewhere, .credentials = options.credentials}, options.http));
  ASSIGN_OR_RETURN(Store without,
                   MakeStore({.location = std::move(options.elsewhere), .credentials = nullptr},
                             std::move(options.http)));
  return std::make_unique<S3Source>(std::move(buckets), std::move(stores),
                                    std::move(with_credentials), std::move(without));
}

}  // namespace weightd::source
