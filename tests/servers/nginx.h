#ifndef WEIGHTD_TESTS_SERVERS_NGINX_H_
#define WEIGHTD_TESTS_SERVERS_NGINX_H_

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/strings/string_view.h"

namespace weightd {

// A real nginx on a loopback port of its own, serving a folder of its own; it ends, and its folder
// goes, with this object.
class Nginx {
 public:
  enum class Scheme { kHttp, kHttps };

  // Listens when the constructor returns. `settings` goes into its server block. With kHttps, it
  // makes itself a certificate for 127.0.0.1 that only certificate() vouches for.
  explicit Nginx(Scheme scheme = Scheme::kHttp, absl::string_view settings = {});
  ~Nginx();
  Nginx(const Nginx&) = delete;

  std::string Url(absl::string_view path) const;
  // What it serves at "/".
  std::filesystem::path root() const { return folder_ / "root"; }
  std::filesystem::path certificate() const { return folder_ / "certificate.pem"; }
  std::filesystem::path access_log() const { return folder_ / "access.log"; }

 private:
  void MakeCertificate() const;
  void WriteConfig(absl::string_view settings) const;
  void Start();
  void Stop();

  const Scheme scheme_;
  std::filesystem::path folder_;
  uint16_t port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_NGINX_H_
