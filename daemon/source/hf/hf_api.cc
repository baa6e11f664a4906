#include "daemon/source/hf/hf_api.h"

#include <simdjson.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/hf/hf_names.h"

namespace weightd::source {
namespace {

constexpr size_t kMostFiles = 100'000;
constexpr size_t kLongestPath = 4096;

absl::Status Nonsense(absl::string_view what) {
  return Error(Reason::kSourceProtocol, absl::StrCat("the hub's answer has ", what),
               "check that the endpoint is a hub of models");
}

}  // namespace

absl::StatusOr<HfRepository> ParseHfRepository(absl::string_view json) {
  if (json.size() > kMaxHfAnswerBytes) {
    return Nonsense("more than 16 MiB");
  }
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const simdjson::padded_string padded(json.data(), json.size());
  if (parser.parse(padded).get(object) != simdjson::SUCCESS) {
    return Nonsense("no JSON object");
  }
  HfRepository repository;
  std::string_view commit;
  if (object.at_key("sha").get(commit) != simdjson::SUCCESS ||
      !IsCommit({commit.data(), commit.size()})) {
    return Nonsense("no commit");
  }
  repository.commit = std::string(commit);
  simdjson::dom::array siblings;
  if (object.at_key("siblings").get(siblings) != simdjson::SUCCESS) {
    return Nonsense("no list of files");
  }
  for (const simdjson::dom::element sibling : siblings) {
    std::string_view path;
    if (sibling.at_key("rfilename").get(path) != simdjson::SUCCESS || path.empty() ||
        path.size() > kLongestPath) {
      return Nonsense("a file without a usable name");
    }
    if (repository.files.size() == kMostFiles) {
      return Nonsense("more than 100,000 files");
    }
    repository.files.emplace_back(path);
  }
  return repository;
}

std::vector<std::string> FilesIn(const std::vector<std::string>& files, absl::string_view folder) {
  std::vector<std::string> names;
  for (absl::string_view file : files) {
    if (absl::ConsumePrefix(&file, folder) && !file.empty() &&
        file.find('/') == absl::string_view::npos) {
      names.emplace_back(file);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace weightd::source
