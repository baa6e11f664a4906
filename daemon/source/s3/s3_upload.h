#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_UPLOAD_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_UPLOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/s3/s3_store.h"

namespace weightd::source {

struct S3UploadOptions {
  S3Location location;
  std::shared_ptr<CredentialProvider> credentials;
  // As many connections carry parts at once.
  HttpSourceOptions http;
  // Of one part, but for objects that need larger ones; at least 5 MiB, but for stores that take
  // less.
  uint64_t part_bytes = 16 << 20;
};

struct FileToUpload {
  enum class Role {
    kOther,
    kWeights,
    // Tells readers that the weights are there.
    kIndex,
  };
  std::string path;
  // An s3: URI of an object, without a query.
  Uri object;
  Role role = Role::kOther;
  // Of an index: the objects that it names.
  std::vector<Uri> names = {};
};

// What readers go by that is in the store already.
struct StoredIndexes {
  // Those that would hide the files from readers: kNotAllowed if one is there.
  std::vector<Uri> must_be_absent;
  // Those that may name weights of this push without being part of it. kNotAllowed if one names
  // weights that would be sent: its readers would take them together with what was there before.
  std::vector<Uri> others;
  // The objects that an index names, by its bytes.
  std::function<absl::StatusOr<std::vector<Uri>>(const Uri& index, absl::string_view bytes)> parse;
  // The largest that is looked at.
  uint64_t most_bytes = 32 << 20;
};

struct UploadedFile {
  std::string path;
  Uri object;
  uint64_t bytes = 0;
  // Less where the store had parts already; 0 where it had the object.
  uint64_t bytes_sent = 0;
  bool was_there = false;
};

struct UploadProgress {
  // What the store has is looked at first.
  bool sending = false;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

// Whether `object` could be uploaded now: an upload of it is begun and given up. Like UploadFiles,
// tells of credentials, endpoints and buckets that are wrong, but needs no files.
absl::Status TryUpload(const Uri& object, const S3UploadOptions& options,
                       Cancellation& cancellation);

// Brings files into one bucket so that readers who go by an index see a whole model or none: parts
// first, which nobody sees; when all are there, the objects are made of them; the index last. Until
// then, another index is in its place if its readers could take new weights for old ones, or some
// for all: one of a file that is nowhere, whose name says why. Readers of an index that names none
// of the weights that change go on.
//
// What the store has already, as its checksums or ETags prove, is not sent again: objects, and
// parts of earlier uploads that were killed. If cancelled, or after an error that a repetition
// doesn't cure, no parts stay behind; if the store can't be reached, they stay for the next time.
// Objects that were made stay, and so does the index in the real one's place: the error says that
// readers fail until all is pushed again. What the store says that it took is compared with what
// was sent: kVerificationFailed. Errors name the file and its object. A file that changes meanwhile
// is kSourceChanged, and so are weights that another push replaces before the index goes out.
// `report` is called by this thread, some times a second. Of an index that we may not read nothing
// is known. The result is in the order of `files`.
absl::StatusOr<std::vector<UploadedFile>> UploadFiles(
    const std::vector<FileToUpload>& files, const StoredIndexes& stored,
    const S3UploadOptions& options, absl::FunctionRef<void(const UploadProgress&)> report,
    Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_UPLOAD_H_
