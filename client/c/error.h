#ifndef WEIGHTD_CLIENT_C_ERROR_H_
#define WEIGHTD_CLIENT_C_ERROR_H_

#include <exception>
#include <new>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/c/include/weightd.h"

struct weightd_error {
  std::string reason;
  std::string message;
  std::string model;
  std::string hint;
};

namespace weightd::c {

// NULL for OK. The caller frees it.
weightd_error* ToError(const absl::Status& status, absl::string_view model = {});

// Where memory for an error is lacking, too; what weightd_error_free leaves alone.
weightd_error* OutOfMemory();

// kInvalidArgument: `what` is NULL.
absl::Status MissingArgument(absl::string_view what);

// What `body`, which returns a Status, came to. The standard library throws where memory is short,
// and no exception may leave the library.
template <typename Body>
weightd_error* Guard(absl::string_view model, const Body& body) noexcept {
  try {
    return ToError(body(), model);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (...) {
    try {
      return ToError(absl::InternalError("an exception that nobody expected"), model);
    } catch (...) {
      return OutOfMemory();
    }
  }
}

}  // namespace weightd::c

#endif  // WEIGHTD_CLIENT_C_ERROR_H_
