#ifndef WEIGHTD_TESTS_FAKES_CTR_FILE_H_
#define WEIGHTD_TESTS_FAKES_CTR_FILE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weightd::fakes {

// How a file is encrypted with AES-CTR.
struct CtrFileOptions {
  // 16 or 32 bytes.
  std::string key = std::string(16, 'k');
  std::string iv = "0123456789abcdef";
  // With veTurboIO's header in clear.
  bool header = false;
};

// `plain`, encrypted.
std::string CtrFile(std::string plain, const CtrFileOptions& options = {});

// veTurboIO's header in clear, with this JSON.
std::string CtrHeader(absl::string_view json);

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_CTR_FILE_H_
