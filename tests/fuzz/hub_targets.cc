#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "daemon/source/hf/hf_api.h"
#include "daemon/source/hf/hf_names.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {

void HubAnswers(absl::string_view input) {
  // As the field of an answer that says a file's version, and as a validator.
  const source::HfVersion version{.commit = std::string(40, 'c'), .etag = source::BareEtag(input)};
  for (const absl::string_view unsafe : {"\"", "/", "\n", "\r", ":", " "}) {
    Require(!absl::StrContains(version.etag, unsafe), "an ETag fits into a header and a path");
  }
  const auto read = source::ParseValidator(source::ToValidator(version));
  Require(read.has_value() == !version.etag.empty(), "a validator holds an ETag");
  Require(!read.has_value() || read->etag == version.etag, "a validator reads as it was written");
  if (const auto foreign = source::ParseValidator(input); foreign.has_value()) {
    Require(source::ToValidator(*foreign) == input, "a validator has one form");
    Require(source::IsCommit(foreign->commit), "a validator names a commit");
  }

  const absl::StatusOr<source::HfRepository> repository = source::ParseHfRepository(input);
  if (!repository.ok()) {
    return Require(ReasonOf(repository.status()) == Reason::kSourceProtocol,
                   "a refused answer breaks the protocol");
  }
  Require(source::IsCommit(repository->commit), "a repository is at a commit");
  for (const absl::string_view folder : {"", "a/", "a/b/"}) {
    const std::vector<std::string> names = source::FilesIn(repository->files, folder);
    for (size_t i = 0; i < names.size(); ++i) {
      Require(!names[i].empty() && !absl::StrContains(names[i], "/"), "a name is one of a folder");
      Require(i == 0 || names[i - 1] < names[i], "names are sorted, each there once");
    }
  }
}

}  // namespace weightd::fuzz
