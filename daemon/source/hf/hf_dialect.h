#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_DIALECT_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_DIALECT_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/source/hf/hf_token.h"
#include "daemon/source/http/http_dialect.h"

namespace weightd::source {

// How a hub of models is asked, as its own Python client does (huggingface_hub). A file's URI is
// answered with its bytes or, for large ones, with a redirect to other servers, whose URLs are
// signed and expire: each try begins at the hub. A folder's URI is the question what the
// repository holds.
//
// The hub alone gets the token, and the hub alone says what version a file has: servers that it
// redirects to only bring bytes.
class HfDialect final : public HttpDialect {
 public:
  // `endpoint` is the hub's address without a slash at its end.
  static absl::StatusOr<std::shared_ptr<HfDialect>> Make(std::string endpoint, HfToken token);

  absl::StatusOr<Hop> FirstHop(const Uri& uri) override;
  absl::StatusOr<Proof> Headers(const Uri& uri, const Hop& hop, Question question,
                                Cancellation& cancellation) override;
  bool follows_redirects() const override { return true; }
  // Within the hub a redirect leads to the same repository or nowhere: one that was renamed is
  // another name, which other rules may hold for.
  absl::Status MayFollow(const Uri& uri, const Hop& next) const override;
  // The ETag is made of the hub's own fields, which no server compares.
  bool pins_by_etag() const override { return false; }
  void Amend(const Hop& hop, const Answer* redirect, Answer& answer) const override;
  HttpFailure FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                        absl::string_view body, absl::string_view name) override;

 private:
  HfDialect(std::string endpoint, Hop hub, HfToken token)
      : endpoint_(std::move(endpoint)), hub_(std::move(hub)), token_(std::move(token)) {}

  const std::string endpoint_;
  const Hop hub_;
  const HfToken token_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_DIALECT_H_
