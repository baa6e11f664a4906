#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_SETTINGS_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_SETTINGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/hf/hf_token.h"

namespace weightd::source {

// Which hub, and with what.
struct HfSettings {
  // As CheckHubEndpoint gives it; or why the hub can't be asked.
  absl::StatusOr<std::string> endpoint;
  HfToken token;
  // The folder that holds "models--organisation--name"; empty: there is none.
  std::string cache;
  // Only what the cache holds.
  bool offline = false;
};

// What the environment says, by the names and defaults of huggingface_hub: HF_ENDPOINT, HF_TOKEN,
// HF_TOKEN_PATH, HF_HUB_CACHE, HF_HOME, HF_HUB_OFFLINE. An HF_ENDPOINT that is none is
// kUnsupported: it matters to whoever asks for the hub, and to nobody else.
HfSettings HfSettingsOf(const Environment& environment);

// An endpoint in normal form, without a slash at its end. INVALID_ARGUMENT unless it is an http: or
// https: URL without user info and query.
absl::StatusOr<std::string> CheckHubEndpoint(absl::string_view endpoint);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_SETTINGS_H_
