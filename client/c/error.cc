#include "client/c/error.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "weightd/v1/error.pb.h"

namespace weightd::c {

weightd_error* ToError(const absl::Status& status, absl::string_view model) {
  if (status.ok()) {
    return nullptr;
  }
  return new weightd_error{v1::ErrorReason_Name(static_cast<v1::ErrorReason>(ReasonOf(status))),
                           std::string(status.message()), std::string(model), HintOf(status)};
}

weightd_error* OutOfMemory() {
  // Made with the library, since there is no memory now.
  static weightd_error* const error = new weightd_error{
      "HOST_MEMORY_SHORT", "this process has no memory left", "", "give it more memory"};
  return error;
}

// Makes it early.
[[maybe_unused]] static weightd_error* const kMadeWithTheLibrary = OutOfMemory();

absl::Status MissingArgument(absl::string_view what) {
  return Error(Reason::kInvalidArgument, absl::StrCat(what, " is NULL"),
               "see weightd.h for what may be NULL");
}

}  // namespace weightd::c

const char* weightd_error_reason(const weightd_error* error) {
  return error == nullptr ? "" : error->reason.c_str();
}

const char* weightd_error_message(const weightd_error* error) {
  return error == nullptr ? "" : error->message.c_str();
}

const char* weightd_error_model(const weightd_error* error) {
  return error == nullptr ? "" : error->model.c_str();
}

const char* weightd_error_hint(const weightd_error* error) {
  return error == nullptr ? "" : error->hint.c_str();
}

void weightd_error_free(weightd_error* error) {
  if (error != weightd::c::OutOfMemory()) {
    delete error;
  }
}
