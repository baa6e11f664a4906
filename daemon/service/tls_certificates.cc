#include "daemon/service/tls_certificates.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"
#include "common/wipe.h"

namespace weightd::service {
namespace {

constexpr size_t kMostBytes = 1 << 20;
constexpr absl::Duration kTellAgain = absl::Hours(24);

}  // namespace

TlsCertificates::TlsCertificates(TlsFiles files, std::vector<Pattern> allowed, Observer observer)
    : files_(std::move(files)), allowed_(std::move(allowed)), observer_(std::move(observer)) {}

absl::StatusOr<TlsCertificates> TlsCertificates::Open(TlsFiles files, std::vector<Pattern> allowed,
                                                      Observer observer) {
  TlsCertificates certificates(std::move(files), std::move(allowed), std::move(observer));
  ASSIGN_OR_RETURN(auto identity, certificates.Read());
  certificates.Take(std::move(identity), absl::Now());
  return certificates;
}

absl::StatusOr<std::shared_ptr<const TlsIdentity>> TlsCertificates::Read() {
  stamps_.clear();
  absl::Status failed;
  const auto read = [&](const std::string& path) {
    absl::StatusOr<source::TextFile> file = source::ReadTextFile(path, kMostBytes);
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

void TlsCertificates::Take(std::shared_ptr<const TlsIdentity> identity, absl::Time now) {
  current_ = std::move(identity);
  waiting_ = nullptr;
  last_error_.clear();
  told_ = now;
  observer_.in_use(*current_);
}

void TlsCertificates::Refuse(const absl::Status& why) {
  if (why.message() != last_error_) {
    last_error_ = std::string(why.message());
    observer_.changed(why);
  }
}

const std::shared_ptr<const TlsIdentity>& TlsCertificates::Current() {
  const absl::Time now = absl::Now();
  if (std::any_of(stamps_.begin(), stamps_.end(),
                  [](const source::FileStamp& stamp) { return stamp.Changed(); })) {
    absl::StatusOr<std::shared_ptr<const TlsIdentity>> identity = Read();
    waiting_ = identity.ok() ? *identity : nullptr;
    if (!identity.ok()) {
      Refuse(identity.status());
    }
  }
  if (waiting_ != nullptr) {
    const absl::Status valid = waiting_->ValidAt(now);
    if (valid.ok() || !current_->ValidAt(now).ok()) {
      observer_.changed(waiting_);
      Take(std::move(waiting_), now);
    } else {
      Refuse(valid);
    }
  }
  if (now - told_ >= kTellAgain) {
    told_ = now;
    observer_.in_use(*current_);
  }
  return current_;
}

}  // namespace weightd::service
