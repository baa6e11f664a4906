#include "daemon/config_difference.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace weightd {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

std::map<std::string, std::string> ModelsOf(const v1::Config& config) {
  std::map<std::string, std::string> models;
  for (const v1::ModelConfig& model : config.models()) {
    models[model.name()] = model.SerializeAsString();
  }
  return models;
}

// Collects where two messages differ. What a duration consists of is not told.
class Paths final : public MessageDifferencer::Reporter {
 public:
  using Fields = std::vector<MessageDifferencer::SpecificField>;

  void ReportAdded(const Message&, const Message&, const Fields& path) override { Add(path); }
  void ReportDeleted(const Message&, const Message&, const Fields& path) override { Add(path); }
  void ReportModified(const Message&, const Message&, const Fields& path) override {
    // A message is told by what differs in it.
    if (path.back().field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      Add(path);
    }
  }

  const std::set<std::string>& paths() const { return paths_; }

 private:
  void Add(const Fields& path) {
    std::string text;
    for (const MessageDifferencer::SpecificField& part : path) {
      if (absl::StartsWith(part.field->containing_type()->full_name(), "google.protobuf.")) {
        break;
      }
      absl::StrAppend(&text, text.empty() ? "" : ".", part.field->name());
      if (part.field->is_repeated()) {
        absl::StrAppend(&text, "[", std::max(part.index, part.new_index), "]");
      }
    }
    paths_.insert(std::move(text));
  }

  std::set<std::string> paths_;
};

}  // namespace

v1::ReloadConfigResponse DifferenceOf(const v1::Config& running, const v1::Config& file) {
  v1::ReloadConfigResponse difference;
  const std::map<std::string, std::string> before = ModelsOf(running);
  const std::map<std::string, std::string> after = ModelsOf(file);
  for (const auto& [name, settings] : after) {
    const auto found = before.find(name);
    if (found == before.end()) {
      difference.add_added(name);
    } else if (found->second != settings) {
      difference.add_changed(name);
    }
  }
  for (const auto& [name, settings] : before) {
    if (!after.contains(name)) {
      difference.add_removed(name);
    }
  }
  v1::Config others = running;
  *others.mutable_models() = file.models();
  others.mutable_log()->set_level(file.log().level());
  Paths paths;
  MessageDifferencer differencer;
  differencer.ReportDifferencesTo(&paths);
  differencer.Compare(others, file);
  for (const std::string& path : paths.paths()) {
    difference.add_needs_restart(path);
  }
  return difference;
}

}  // namespace weightd
