#include "daemon/service/error_detail.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "common/utf8.h"

namespace weightd::service {
namespace {

constexpr size_t kLongestName = 500;

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
    case Reason::kQuotaExceeded:
      return "release models that this listener's clients hold, or ask the operator to raise its "
             "max_bytes";
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
    case Reason::kKeyMissing:
    case Reason::kKeyRefused:
      return "check `keys` in the daemon's config, or the key that was given";
    case Reason::kBudgetExceeded:
      return "evict other models, or raise host.budget";
    case Reason::kHostMemoryShort:
      return "free memory on this node, or lower host.budget";
    case Reason::kModelInUse:
      return "end its leases first, or force it";
    case Reason::kModelPinned:
      return "unpin it first";
    case Reason::kDeviceUnavailable:
      return "see `weightctl status` and `weightctl doctor` on this node";
    case Reason::kDeviceMemoryShort:
      return "free memory on the GPU, or lower gpu.budget";
    case Reason::kPlacementDiffers:
      return "ask for it as its placement in the daemon's config says";
    case Reason::kDeviceNotVisible:
      return "check CUDA_VISIBLE_DEVICES and the container's GPUs";
    case Reason::kDeadline:
      return "try again with more time";
    case Reason::kCancelled:
      return "try again";
    case Reason::kShuttingDown:
    case Reason::kDaemonUnreachable:
      return "try again when weightd is up";
    case Reason::kTensorNotFound:
      return "list the model's tensors";
    case Reason::kFileNotFound:
      return "list the model's files";
    case Reason::kOutputNotCreated:
    case Reason::kOutputNotWritten:
      return "write elsewhere";
    case Reason::kInternal:
      return "see the daemon's log, and report it";
  }
  return "";
}

}  // namespace

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
