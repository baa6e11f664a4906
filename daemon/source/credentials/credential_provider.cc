#include "daemon/source/credentials/credential_provider.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_cache.h"
#include "daemon/source/credentials/credential_services.h"

namespace weightd::source {
namespace {

// The first of several places that is configured, for good.
class FirstConfigured final : public CredentialSource {
 public:
  explicit FirstConfigured(std::vector<std::unique_ptr<CredentialSource>> sources)
      : sources_(std::move(sources)) {}

  absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) override {
    if (found_ != nullptr) {
      return FromFound(cancellation);
    }
    for (const std::unique_ptr<CredentialSource>& source : sources_) {
      ASSIGN_OR_RETURN(std::optional<FetchedCredentials> fetched, source->Fetch(cancellation));
      if (fetched.has_value()) {
        found_ = source.get();
        kind_ = fetched->credentials.kind;
        return fetched;
      }
    }
    return std::nullopt;
  }

 private:
  absl::StatusOr<std::optional<FetchedCredentials>> FromFound(Cancellation& cancellation) {
    ASSIGN_OR_RETURN(std::optional<FetchedCredentials> fetched, found_->Fetch(cancellation));
    if (!fetched.has_value()) {
      return Error(Reason::kSourceUnavailable,
                   absl::StrCat(kind_, ": gives no credentials any more"),
                   "restore it, or start the daemon anew to use another place");
    }
    return fetched;
  }

  const std::vector<std::unique_ptr<CredentialSource>> sources_;
  CredentialSource* found_ = nullptr;
  std::string kind_;
};

}  // namespace

std::unique_ptr<CredentialProvider> MakeCredentialProvider(CredentialOptions options,
                                                           Environment environment) {
  std::vector<std::unique_ptr<CredentialSource>> sources;
  sources.push_back(MakeGivenSource(std::move(options.given)));
  sources.push_back(MakeEnvironmentSource(environment));
  sources.push_back(MakeProfileSource(environment, options.allow_process));
  sources.push_back(MakeS3cmdSource(environment));
  sources.push_back(MakeWebIdentitySource(environment, std::move(options.region)));
  sources.push_back(MakeContainerSource(environment));
  sources.push_back(MakeMetadataSource(environment));
  return MakeCachingProvider(std::make_unique<FirstConfigured>(std::move(sources)));
}

}  // namespace weightd::source
