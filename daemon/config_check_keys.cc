#include "daemon/config_check_keys.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "daemon/config_values.h"
#include "daemon/format/aes_ctr.h"

namespace weightd {
namespace {

constexpr absl::string_view kAesCtr = "aes-ctr";

// What else there is to say of a key of `cipher`, at `path`.
absl::Status CheckCipher(const v1::KeyConfig& key, const std::string& path,
                         const FieldLines& lines) {
  RETURN_IF_ERROR(CheckOneOf(key.cipher(), {"secretbox", kAesCtr}, path + ".cipher", lines));
  if (key.cipher() != kAesCtr) {
    if (!key.iv().empty() || !key.iv_env().empty()) {
      return lines.ErrorAt(path + (key.iv().empty() ? ".iv_env" : ".iv"),
                           "only keys of aes-ctr have an IV",
                           "say cipher: aes-ctr, or leave it out");
    }
    return absl::OkStatus();
  }
  if (!key.password_file().empty() || !key.password_env().empty()) {
    return lines.ErrorAt(path, "aes-ctr takes a key, not a password", "give key_file or key_env");
  }
  if (!key.iv().empty() && !key.iv_env().empty()) {
    return lines.ErrorAt(path + ".iv_env", "iv is given, too", "leave one of them out");
  }
  if (!key.iv().empty() && !format::ParseIv(key.iv()).has_value()) {
    return lines.ErrorAt(path + ".iv", "not an IV of 16 bytes",
                         "write it in hexadecimal or base64 digits");
  }
  return absl::OkStatus();
}

absl::Status CheckKey(const v1::KeyConfig& key, const std::string& path, const FieldLines& lines) {
  if (key.models().empty()) {
    return lines.ErrorAt(path, "names no models", "list patterns of models under models");
  }
  RETURN_IF_ERROR(CheckModelPatterns(key.models(), path + ".models", lines));
  RETURN_IF_ERROR(CheckCipher(key, path, lines));
  int named = 0;
  for (const auto& [field, file] :
       {std::pair(".key_file", key.key_file()), std::pair(".password_file", key.password_file())}) {
    if (!file.empty()) {
      RETURN_IF_ERROR(CheckAbsolutePath(file, path + field, lines));
      ++named;
    }
  }
  named += key.key_env().empty() ? 0 : 1;
  named += key.password_env().empty() ? 0 : 1;
  const bool by_default = named == 0 && key.cipher() == kAesCtr;
  if (named != 1 && !by_default) {
    return lines.ErrorAt(path, named == 0 ? "names no secret" : "names several secrets",
                         "give one of key_file, password_file, key_env, password_env");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckKeys(const v1::Config& config, const FieldLines& lines) {
  for (int i = 0; i < config.keys_size(); ++i) {
    RETURN_IF_ERROR(CheckKey(config.keys(i), absl::StrCat("keys[", i, "]"), lines));
  }
  return absl::OkStatus();
}

}  // namespace weightd
