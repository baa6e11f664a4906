#include "daemon/config_yaml.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"
#include "yaml-cpp/emitter.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/parser.h"

namespace weightd {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 20;

// Stops yaml-cpp, which has no other way to be told.
struct Refused {
  int line;
  std::string rule;
};

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }

// Builds the tree from yaml-cpp's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    RefuseMarkup(mark, "", anchor);
    Add({.kind = YamlNode::Kind::kNull, .line = LineOf(mark)});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{LineOf(mark), "aliases are not supported; write the value out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    RefuseMarkup(mark, tag, anchor);
    Add({.kind = YamlNode::Kind::kScalar, .line = LineOf(mark), .scalar = value});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    RefuseMarkup(mark, tag, anchor);
    Open({.kind = YamlNode::Kind::kList, .line = LineOf(mark)});
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    RefuseMarkup(mark, tag, anchor);
    Open({.kind = YamlNode::Kind::kMap, .line = LineOf(mark)});
  }
  void OnMapEnd() override { Close(); }

 private:
  // A list or map whose end has not come.
  struct Unfinished {
    YamlNode node;
    // Whether the last item of the map still waits for its value.
    bool has_key = false;
  };

  static void RefuseMarkup(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      throw Refused{LineOf(mark), "anchors are not supported"};
    }
    // yaml-cpp gives "?" to plain nodes and "!" to quoted scalars.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refused{LineOf(mark), "tags are not supported"};
    }
  }

  void Open(YamlNode node) {
    if (open_.size() >= kMaxDepth) {
      throw Refused{node.line, absl::StrCat("nested deeper than ", kMaxDepth)};
    }
    open_.push_back({.node = std::move(node)});
  }

  void Close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    Add(std::move(node));
  }

  void Add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Unfinished& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (std::exchange(parent.has_key, !parent.has_key)) {
      YamlNode& item = parent.node.items.back();
      node.key = std::move(item.key);
      node.key_line = item.key_line;
      item = std::move(node);
    } else {
      CheckKey(parent.node, node);
      parent.node.items.push_back({.key = std::move(node.scalar), .key_line = node.line});
    }
  }

  // The maps that the config allows are small; one that isn't is stopped early.
  static void CheckKey(const YamlNode& map, const YamlNode& key) {
    constexpr size_t kMaxMembers = 1000;
    if (key.kind != YamlNode::Kind::kScalar) {
      throw Refused{key.line, "a key must be a word"};
    }
    if (map.items.size() >= kMaxMembers) {
      throw Refused{key.line, absl::StrCat("more than ", kMaxMembers, " keys in one map")};
    }
    for (const YamlNode& other : map.items) {
      if (other.key == key.scalar) {
        throw Refused{key.line, absl::StrCat("key \"", key.scalar,
                                             "\" stands twice, first in line ", other.key_line)};
      }
    }
  }

  std::vector<Unfinished> open_;
  YamlNode root_;
};

void Write(const YamlNode& node, YAML::Emitter& out) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      out << YAML::Null;
      return;
    case YamlNode::Kind::kScalar:
      out << node.scalar;
      return;
    case YamlNode::Kind::kList:
      out << YAML::BeginSeq;
      for (const YamlNode& item : node.items) {
        Write(item, out);
      }
      out << YAML::EndSeq;
      return;
    case YamlNode::Kind::kMap:
      out << YAML::BeginMap;
      for (const YamlNode& item : node.items) {
        out << YAML::Key << item.key << YAML::Value;
        Write(item, out);
      }
      out << YAML::EndMap;
      return;
  }
}

}  // namespace

absl::StatusOr<YamlNode> ReadYaml(absl::string_view text, absl::string_view file_name) {
  const auto refuse = [&](int line, absl::string_view rule) {
    return Error(Reason::kInvalidArgument, absl::StrCat(file_name, ":", line, ": ", rule));
  };
  if (text.size() > kMaxBytes) {
    return refuse(1, absl::StrCat("a config of ", text.size(), " bytes; at most ", kMaxBytes,
                                  " are allowed"));
  }
  // yaml-cpp replaces stray bytes, and takes NUL for the end of the text.
  const size_t stray = std::min(FirstInvalidUtf8(text).value_or(text.size()), text.find('\0'));
  if (stray < text.size()) {
    const auto line = 1 + std::count(text.begin(), text.begin() + stray, '\n');
    return refuse(static_cast<int>(line), "the text must be UTF-8 without NUL");
  }
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder tree;
    if (!parser.HandleNextDocument(tree)) {
      return YamlNode{.kind = YamlNode::Kind::kNull, .line = 1};
    }
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      return refuse(second.TakeRoot().line, "a second document");
    }
    return tree.TakeRoot();
  } catch (const Refused& refused) {
    return refuse(refused.line, refused.rule);
  } catch (const YAML::Exception& error) {
    return refuse(LineOf(error.mark), absl::StrCat("not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return refuse(1, absl::StrCat("not YAML: ", error.what()));
  }
}

std::string WriteYaml(const YamlNode& node) {
  YAML::Emitter out;
  Write(node, out);
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace weightd
