#ifndef WEIGHTD_DAEMON_CONFIG_YAML_H_
#define WEIGHTD_DAEMON_CONFIG_YAML_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd {

// A YAML document as a tree. Scalars are text: what they mean is for the reader of the tree to say.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  // Counted from 1; 0 for nodes that were not read from a text.
  int line = 0;
  // Of a scalar.
  std::string scalar = {};
  // Of a list or map, in the order of the text.
  std::vector<YamlNode> items = {};
  // Of a map's item: its key, unique in the map, and the key's line.
  std::string key = {};
  int key_line = 0;
};

// Reads one document. Refused, with file and line: more than a megabyte, other than
// UTF-8, nesting deeper than 20,
// anchors, aliases, tags, a second document, keys that are no scalars or stand twice. An empty text
// is a null node. No exception leaves this function.
absl::StatusOr<YamlNode> ReadYaml(absl::string_view text, absl::string_view file_name);

// The document for people and for ReadYaml.
std::string WriteYaml(const YamlNode& node);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_YAML_H_
