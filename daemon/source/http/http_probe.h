#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PROBE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PROBE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/uri.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/source.h"
#include "daemon/source/trail.h"

namespace weightd::source {

// Finds out what version an object has, by asking for its first byte: a HEAD is not allowed by
// presigned URLs, and some servers answer it otherwise than a GET.
class Probe final : public Exchange {
 public:
  // Without `ranged`, asks for the whole object and stops after the head: for servers that refuse
  // the first byte of an empty object.
  Probe(const Uri& uri, bool ranged) : uri_(uri), ranged_(ranged) {}

  const Uri& uri() const override { return uri_; }
  std::string Range() const override { return ranged_ ? "0-0" : ""; }
  std::string IfMatch() const override { return ""; }
  Trail* trail() const override { return trail_.get(); }
  absl::Status OnHead(const Answer& answer) override;
  // More than the one byte is not waited for.
  bool OnBody(absl::Span<const char> bytes) override {
    return version_->ranges && bytes.size() <= 1;
  }
  bool complete() const override { return version_.has_value(); }
  uint64_t arrived() const override { return 0; }

  const ObjectVersion& version() const { return *version_; }

 private:
  const Uri uri_;
  const bool ranged_;
  // The version's.
  const std::shared_ptr<Trail> trail_ = std::make_shared<Trail>();
  std::optional<ObjectVersion> version_;
};

// Asks what a server knows of the checksums of a version of an object, or, with a query of its own,
// of a part of it.
class ChecksumProbe final : public Exchange {
 public:
  // `object` outlives it; `uri` leads to it.
  ChecksumProbe(const ObjectVersion* object, Uri uri) : object_(object), uri_(std::move(uri)) {}

  const Uri& uri() const override { return uri_; }
  Question question() const override { return Question::kChecksums; }
  std::string Range() const override { return ""; }
  std::string IfMatch() const override;
  absl::Status OnHead(const Answer& answer) override;
  bool OnBody(absl::Span<const char>) override { return false; }
  bool complete() const override { return answer_.has_value(); }
  uint64_t arrived() const override { return 0; }

  // After the exchange succeeded.
  const Answer& answer() const { return *answer_; }

 private:
  const ObjectVersion* const object_;
  const Uri uri_;
  std::optional<Answer> answer_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PROBE_H_
