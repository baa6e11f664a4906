#include "daemon/service/model_names.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/service/error_detail.h"

namespace weightd::service {
namespace {

constexpr size_t kLongestModel = 8192;

}  // namespace

absl::Status ModelNames::Add(const std::string& name, absl::string_view uri) {
  absl::StatusOr<Uri> parsed = Uri::Parse(uri);
  if (!parsed.ok()) {
    return Annotate(parsed.status(), absl::StrCat("model ", name));
  }
  if (by_name_.count(name) > 0) {
    return Error(Reason::kInvalidArgument, absl::StrCat("two models are named ", name));
  }
  std::vector<std::string>& aliases = aliases_[parsed->ToString()];
  aliases.push_back(name);
  std::sort(aliases.begin(), aliases.end());
  by_name_.emplace(name, *std::move(parsed));
  return absl::OkStatus();
}

absl::StatusOr<Uri> ModelNames::Resolve(absl::string_view model) const {
  if (model.size() > kLongestModel) {
    return Error(Reason::kInvalidUri,
                 absl::StrCat("the model's name has ", model.size(), " bytes; at most ",
                              kLongestModel, " are allowed"),
                 "give a shorter URI, or ask the operator for an alias");
  }
  const auto found = by_name_.find(std::string(model));
  if (found != by_name_.end()) {
    return found->second;
  }
  if (!absl::StrContains(model, ':') && !absl::StartsWith(model, "/")) {
    return Error(
        Reason::kInvalidUri,
        absl::StrCat("\"", RedactedName(model), "\" is neither a URI nor the name of a model"),
        "name a model as https://host/path, s3://bucket/key, /folder/file, or by a name "
        "that the configuration gives");
  }
  return Uri::Parse(model);
}

std::vector<std::string> ModelNames::AliasesOf(const Uri& uri) const {
  const auto found = aliases_.find(uri.ToString());
  return found == aliases_.end() ? std::vector<std::string>() : found->second;
}

std::vector<std::string> ModelNames::AliasesAround(const Uri& uri) const {
  const std::string text = uri.Redacted();
  std::vector<std::string> names;
  for (const auto& [name, folder] : by_name_) {
    const std::string outer = folder.Redacted();
    absl::string_view rest = text;
    if (absl::ConsumePrefix(&rest, absl::StripSuffix(outer, "/")) &&
        (rest.empty() || rest.front() == '/')) {
      names.push_back(name);
    }
  }
  return names;
}

std::vector<Uri> ModelNames::Configured() const {
  std::vector<Uri> uris;
  uris.reserve(aliases_.size());
  for (const auto& [uri, names] : aliases_) {
    uris.push_back(by_name_.at(names.front()));
  }
  return uris;
}

}  // namespace weightd::service
