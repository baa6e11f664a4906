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

bool LiesIn(absl::string_view uri, absl::string_view place) {
  return absl::ConsumePrefix(&uri, place) && (uri.empty() || uri.front() == '/');
}

absl::Status ModelNames::Set(const std::vector<Named>& models) {
  std::map<std::string, Uri> by_name;
  std::map<std::string, std::vector<std::string>> aliases;
  for (const Named& model : models) {
    absl::StatusOr<Uri> parsed = Uri::Parse(model.uri);
    if (!parsed.ok()) {
      return Annotate(parsed.status(), absl::StrCat("model ", model.name));
    }
    aliases[parsed->ToString()].push_back(model.name);
    if (!by_name.emplace(model.name, *std::move(parsed)).second) {
      return Error(Reason::kInvalidArgument, absl::StrCat("two models are named ", model.name));
    }
  }
  for (auto& [uri, names] : aliases) {
    std::sort(names.begin(), names.end());
  }
  absl::MutexLock lock(&mutex_);
  by_name_.swap(by_name);
  aliases_.swap(aliases);
  return absl::OkStatus();
}

absl::StatusOr<Uri> ModelNames::Resolve(absl::string_view model) const {
  if (model.size() > kLongestModel) {
    return Error(Reason::kInvalidUri,
                 absl::StrCat("the model's name has ", model.size(), " bytes; at most ",
                              kLongestModel, " are allowed"),
                 "give a shorter URI, or ask the operator for an alias");
  }
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto found = by_name_.find(std::string(model));
    if (found != by_name_.end()) {
      return found->second;
    }
  }
  if (!absl::StrContains(model, ':') && !absl::StartsWith(model, "/")) {
    return Error(
        Reason::kInvalidUri,
        absl::StrCat("\"", RedactedName(model), "\" is neither a URI nor the name of a model"),
        "name a model as https://host/path, s3://bucket/key, hf://organisation/name@revision/, "
        "/folder/file, or by a name that the configuration gives");
  }
  return Uri::Parse(model);
}

std::vector<std::string> ModelNames::AliasesOf(const Uri& uri) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto found = aliases_.find(uri.ToString());
  return found == aliases_.end() ? std::vector<std::string>() : found->second;
}

std::vector<std::string> ModelNames::AliasesAround(const Uri& uri) const {
  const std::string text = uri.Redacted();
  absl::ReaderMutexLock lock(&mutex_);
  std::vector<std::string> names;
  for (const auto& [name, folder] : by_name_) {
    const std::string outer = folder.Redacted();
    if (LiesIn(text, absl::StripSuffix(outer, "/"))) {
      names.push_back(name);
    }
  }
  return names;
}

std::vector<std::string> ModelNames::PlacesOf(
    absl::FunctionRef<bool(absl::string_view name)> wanted) const {
  std::vector<std::string> places;
  absl::ReaderMutexLock lock(&mutex_);
  for (const auto& [name, uri] : by_name_) {
    if (wanted(name)) {
      places.emplace_back(absl::StripSuffix(uri.Redacted(), "/"));
    }
  }
  return places;
}

std::vector<Uri> ModelNames::Configured() const {
  absl::ReaderMutexLock lock(&mutex_);
  std::vector<Uri> uris;
  uris.reserve(aliases_.size());
  for (const auto& [uri, names] : aliases_) {
    uris.push_back(by_name_.at(names.front()));
  }
  return uris;
}

}  // namespace weightd::service
