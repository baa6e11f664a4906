#include "daemon/service/tls_certificates.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "common/wipe.h"

namespace weightd::service {
namespace {

constexpr size_t kMostBytes = 1 << 20;

}  // namespace

TlsCertificates::TlsCertificates(TlsFiles files, std::vector<Pattern> allowed, Observer observer)
    : files_(std::move(files)), allowed_(std::move(allowed)), observer_(std::move(observer)) {}

absl::StatusOr<TlsCertificates> TlsCertificates::Open(TlsFiles files, std::vector<Pattern> allowed,
                                                      Observer observer) {
  TlsCertificates certificates(std::move(files), std::move(allowed), std::move(observer));
  ASSIGN_OR_RETURN(certificates.current_, certificates.Read());
  return certificates;
}

absl::StatusOr<std::shared_ptr<const TlsIdentity>> TlsCertificates::Read() {
  stamps_.clear();
  absl::Status failed;
  const auto read = [&](const std::string& path) {
    absl::StatusOr<source::SmallFile> file = source::ReadSmallFile(path, kMostBytes);
    if (!file.ok()) {
      stamps_.push_back(source::FileStamp::Missing(path));
      failed.Update(file.status());
      return std::string();
    }
    stamps_.push_back(std::move(file->stamp));
    return std::move(file->text);
  };
  TlsTexts texts = {read(files_.certificate), read(files_.key), read(files_.client_authorities)};
  absl::StatusOr<std::shared_ptr<const TlsIdentity>> identity =
      failed.ok() ? TlsIdentity::Make(files_, texts, allowed_) : std::move(failed);
  Wipe(texts.key);
  return identity;
}

const std::shared_ptr<const TlsIdentity>& TlsCertificates::Current() {
  if (std::none_of(stamps_.begin(), stamps_.end(),
                   [](const source::FileStamp& stamp) { return stamp.Changed(); })) {
    return current_;
  }
  absl::StatusOr<std::shared_ptr<const TlsIdentity>> identity = Read();
  if (identity.ok()) {
    current_ = *identity;
    last_error_.clear();
    observer_(identity);
  } else if (identity.status().message() != last_error_) {
    last_error_ = std::string(identity.status().message());
    observer_(identity);
  }
  return current_;
}

}  // namespace weightd::service
