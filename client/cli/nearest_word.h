#ifndef WEIGHTD_CLIENT_CLI_NEAREST_WORD_H_
#define WEIGHTD_CLIENT_CLI_NEAREST_WORD_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weightd::cli {

// The one of `words` that was most likely meant by `word`: at most two characters are to be put in,
// taken out or changed. Empty if there is none.
std::string NearestWord(absl::string_view word, const std::vector<std::string>& words);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_NEAREST_WORD_H_
