#include "daemon/source/hf/hf_settings.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "common/uri.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kHub = "https://huggingface.co";

constexpr absl::string_view kNoAddress = "is no address of a web server";
constexpr absl::string_view kAddressHint =
    "https://host[:port][/path]; tokens belong into HF_TOKEN or sources.hf.token_file";

// huggingface_hub's ENV_VARS_TRUE_VALUES.
bool IsTrue(absl::string_view text) {
  const std::string upper = absl::AsciiStrToUpper(text);
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

// Of the first variable that is set, "~" expanded; `otherwise` if none is.
std::string PathOf(const Environment& environment, std::initializer_list<absl::string_view> names,
                   std::string otherwise) {
  for (const absl::string_view name : names) {
    std::string path = environment.variable(name);
    if (absl::StartsWith(path, "~/")) {
      return environment.home.empty() ? "" : absl::StrCat(environment.home, path.substr(1));
    }
    if (!path.empty()) {
      return path;
    }
  }
  return otherwise;
}

absl::StatusOr<std::string> EndpointOf(const Environment& environment) {
  const std::string given = environment.variable("HF_ENDPOINT");
  absl::StatusOr<std::string> endpoint = CheckHubEndpoint(given.empty() ? kHub : given);
  return endpoint.ok() ? std::move(endpoint)
                       : Error(Reason::kUnsupported,
                               absl::StrCat("HF_ENDPOINT in the environment ", kNoAddress),
                               absl::StrCat("leave it out, or set it to ", kAddressHint,
                                            ", and start weightd anew"));
}

std::string Below(const std::string& folder, absl::string_view name) {
  return folder.empty() ? "" : absl::StrCat(folder, "/", name);
}

}  // namespace

HfSettings HfSettingsOf(const Environment& environment) {
  const std::string caches =
      PathOf(environment, {"XDG_CACHE_HOME"}, Below(environment.home, ".cache"));
  const std::string home = PathOf(environment, {"HF_HOME"}, Below(caches, "huggingface"));
  HfSettings settings;
  settings.endpoint = EndpointOf(environment);
  settings.token.value = environment.variable("HF_TOKEN");
  if (settings.token.value.empty()) {
    settings.token.value = environment.variable("HUGGING_FACE_HUB_TOKEN");
  }
  settings.token.file = PathOf(environment, {"HF_TOKEN_PATH"}, Below(home, "token"));
  settings.cache =
      PathOf(environment, {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}, Below(home, "hub"));
  const std::string offline = environment.variable("HF_HUB_OFFLINE");
  settings.offline =
      IsTrue(offline.empty() ? environment.variable("TRANSFORMERS_OFFLINE") : offline);
  return settings;
}

absl::StatusOr<std::string> CheckHubEndpoint(absl::string_view endpoint) {
  const absl::StatusOr<Uri> uri = Uri::Parse(endpoint);
  if (!uri.ok() || (uri->scheme() != "http" && uri->scheme() != "https") ||
      !uri->user_info().empty() || !uri->query().empty()) {
    return Error(Reason::kInvalidArgument, absl::StrCat("the hub's endpoint ", kNoAddress),
                 absl::StrCat("write ", kAddressHint));
  }
  return std::string(absl::StripSuffix(uri->ToString(), "/"));
}

}  // namespace weightd::source
