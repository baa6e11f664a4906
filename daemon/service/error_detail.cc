#include "daemon/service/error_detail.h"

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"

namespace weightd::service {
namespace {

constexpr size_t kLongestName = 500;

// Length of the well-formed UTF-8 character (Unicode, table 3-7) at the head of `text`; 0 if there
// is none.
size_t CharacterLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) {
    return 0;
  }
  const uint8_t least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const uint8_t most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < least || byte(1) > most) {
    return 0;
  }
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  return length;
}

// What to do about errors that don't say it themselves.
absl::string_view DefaultHint(Reason reason) {
  switch (reason) {
    case Reason::kUnspecified:
      return "";
    case Reason::kInvalidUri:
      return "name the model by its alias, or by a file, http or https URI";
    case Reason::kInvalidArgument:
      return "correct the request";
    case Reason::kUnsupported:
      return "check that client and daemon are of the same version, and what formats it reads";
    case Reason::kNotAllowed:
      return "ask the operator what this listener may attach and load";
    case Reason::kSessionInvalid:
      return "connect to handles.sock again";
    case Reason::kLeaseUnknown:
    case Reason::kModelClosed:
      return "acquire the model again";
    case Reason::kTooManyRequests:
      return "try again";
    case Reason::kModelNotFound:
      return "check the model's name, and that it is at its source";
    case Reason::kModelNotResident:
      return "preload it";
    case Reason::kSourceDenied:
      return "check what the daemon's user may read, and the credentials in the URI";
    case Reason::kSourceUnavailable:
      return "check that the source can be reached from this node, then try again";
    case Reason::kSourceChanged:
      return "try again when the model's files no longer change";
    case Reason::kSourceProtocol:
      return "check that the source serves files as they are, with their length and byte ranges";
    case Reason::kAddressRefused:
      return "ask the operator to add the network to sources.http.allowed_networks";
    case Reason::kMalformedModel:
    case Reason::kVerificationFailed:
      return "check the model's files at their source";
    case Reason::kBudgetExceeded:
      return "evict other models, or raise host.budget";
    case Reason::kHostMemoryShort:
      return "free memory on this node, or lower host.budget";
    case Reason::kModelInUse:
      return "end its leases first, or force it";
    case Reason::kModelPinned:
      return "unpin it first";
    case Reason::kDeadline:
      return "try again with more time";
    case Reason::kCancelled:
      return "try again";
    case Reason::kShuttingDown:
    case Reason::kDaemonUnreachable:
      return "try again when weightd is up";
    case Reason::kTensorNotFound:
      return "list the model's tensors";
    case Reason::kInternal:
      return "see the daemon's log, and report it";
  }
  return "";
}

}  // namespace

std::string ToUtf8(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0) {
      result += '?';
      text.remove_prefix(1);
    } else {
      result.append(text.data(), length);
      text.remove_prefix(length);
    }
  }
  return result;
}

std::string RedactedName(absl::string_view model) {
  const absl::StatusOr<Uri> uri = Uri::Parse(model);
  if (uri.ok()) {
    return ToUtf8(absl::string_view(uri->Redacted()).substr(0, kLongestName));
  }
  // An alias, or a malformed URI: drop what might be secret without understanding the rest.
  model = model.substr(0, model.find_first_of("?#"));
  const size_t scheme = model.find("://");
  const size_t authority = scheme == absl::string_view::npos ? 0 : scheme + 3;
  const size_t at = model.rfind('@');
  const std::string name = at == absl::string_view::npos || at < authority
                               ? std::string(model)
                               : absl::StrCat(model.substr(0, authority), model.substr(at + 1));
  return ToUtf8(absl::string_view(name).substr(0, kLongestName));
}

v1::ErrorDetail ToErrorDetail(const absl::Status& status, absl::string_view model) {
  v1::ErrorDetail detail;
  detail.set_reason(static_cast<v1::ErrorReason>(ReasonOf(status)));
  detail.set_model(RedactedName(model));
  const std::string hint = HintOf(status);
  detail.set_hint(hint.empty() ? std::string(DefaultHint(ReasonOf(status))) : ToUtf8(hint));
  detail.set_message(ToUtf8(status.message()));
  return detail;
}

}  // namespace weightd::service
