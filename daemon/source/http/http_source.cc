#include "daemon/source/http/http_source.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/http/http_reader.h"

namespace weightd::source {
namespace {

class HttpSource final : public Source {
 public:
  explicit HttpSource(std::unique_ptr<HttpReader> reader) : reader_(std::move(reader)) {}

  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation) override {
    return reader_->Stat(uri, policy, cancellation);
  }

  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy&,
                                                Cancellation&) override {
    return Error(Reason::kUnsupported,
                 absl::StrCat(folder.Redacted(), ": web servers don't list folders"),
                 "name one file, or put a model.safetensors.index.json beside the shards");
  }

  bool copies() const override { return true; }

  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation) override {
    return reader_->Read(requests, policy, observer, cancellation);
  }

 private:
  const std::unique_ptr<HttpReader> reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Source>> MakeHttpSource(HttpSourceOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<HttpReader> reader,
                   HttpReader::Make(std::move(options), std::make_shared<PlainHttp>()));
  return std::make_unique<HttpSource>(std::move(reader));
}

}  // namespace weightd::source
