#ifndef WEIGHTD_TESTS_SERVERS_MEMORY_S3_H_
#define WEIGHTD_TESTS_SERVERS_MEMORY_S3_H_

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "tests/servers/handler_server.h"

namespace weightd {

// A store of one bucket, "bucket", that takes objects, whole and in parts, and keeps SHA-256
// checksums if it is told to. Signatures are not checked; the checksums of bodies are. Thread-safe.
class MemoryS3 {
 public:
  explicit MemoryS3(bool keeps_checksums) : keeps_checksums_(keeps_checksums) {}

  // What answers a request instead of the store; nothing lets it through. Called by several threads
  // at once.
  using Fault = std::function<std::optional<ServiceReply>(const ServiceRequest& request)>;
  void SetFault(Fault fault);
  // What is answered instead after the store has done what was asked; nothing: its own answer.
  void SetLoss(Fault loss);
  // ETags tell nothing of the bytes from now on, as of objects that are encrypted by a key.
  void HideDigests();

  std::string Endpoint() const { return server_.Url(); }
  std::vector<ServiceRequest> requests() const { return server_.requests(); }

  std::map<std::string, std::string> objects() const;
  void PutObject(const std::string& key, const std::string& bytes);
  // Begins an upload, as another client would; its id. `algorithm` is told in lists.
  std::string BeginUpload(const std::string& key, const std::string& algorithm);
  void PutPart(const std::string& id, int number, const std::string& bytes);
  // Ids of those that are unfinished.
  std::vector<std::string> uploads() const;

 private:
  struct Object {
    std::string bytes;
    std::string etag;
    // As the header has it.
    std::string sha256;
  };
  struct Upload {
    std::string key;
    std::string algorithm;
    std::map<int, std::string> parts;
  };
  using Query = std::map<std::string, std::string>;

  ServiceReply Answer(const ServiceRequest& request);
  ServiceReply Do(const ServiceRequest& request);
  // With its quotes.
  std::string Etag(absl::string_view bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // To whoever sent an object or a part.
  ServiceReply Taken(const std::string& body) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ServiceReply AnswerUpload(const ServiceRequest& request, const std::string& id,
                            const Query& query) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ServiceReply ListUploads(const std::string& prefix) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ServiceReply ListParts(const Upload& upload) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ServiceReply Complete(const std::string& id, const std::string& body)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Begin(const std::string& key, const std::string& algorithm)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool keeps_checksums_;
  mutable absl::Mutex mutex_;
  Fault fault_ ABSL_GUARDED_BY(mutex_);
  Fault loss_ ABSL_GUARDED_BY(mutex_);
  bool hides_digests_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Object> objects_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Upload> uploads_ ABSL_GUARDED_BY(mutex_);
  int begun_ ABSL_GUARDED_BY(mutex_) = 0;
  // Answers from the end of the constructor on.
  HandlerServer server_{[this](const ServiceRequest& request) { return Answer(request); }};
};

// An answer of an S3 server that refuses.
ServiceReply S3ErrorReply(int status, const std::string& code);

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_MEMORY_S3_H_
