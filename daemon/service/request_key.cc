#include "daemon/service/request_key.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/wipe.h"
#include "daemon/format/secret_key.h"

namespace weightd::service {
namespace {

using format::kKeyBytes;
using format::kMostSecretBytes;

absl::Status CheckSize(size_t size, bool password) {
  if (password ? size >= 1 && size <= kMostSecretBytes : size == kKeyBytes) {
    return absl::OkStatus();
  }
  return Error(
      Reason::kInvalidArgument,
      absl::StrCat("the ", password ? "password" : "key", " of the request has ", size, " bytes"),
      absl::StrCat("give a key of ", kKeyBytes, " bytes, or a password of 1 to ",
                   kMostSecretBytes));
}

}  // namespace

absl::StatusOr<std::optional<pipeline::ModelKey>> TakeKey(v1::PreloadRequest& request) {
  if (!request.has_secret()) {
    return std::nullopt;
  }
  v1::Secret& secret = *request.mutable_secret();
  if (secret.kind_case() == v1::Secret::KIND_NOT_SET) {
    return Error(Reason::kInvalidArgument, "the secret of the request is empty",
                 "give a key or a password, or no secret");
  }
  const bool password = secret.has_password();
  std::string& bytes = password ? *secret.mutable_password() : *secret.mutable_key();
  pipeline::ModelKey key = {.secret = {}, .password = password};
  const absl::Status right = CheckSize(bytes.size(), password);
  if (right.ok()) {
    key.secret = format::SecretKey(bytes);
  }
  Wipe(bytes);
  RETURN_IF_ERROR(right);
  return key;
}

}  // namespace weightd::service
