#include "daemon/source/credentials/ini_file.h"

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weightd::source {
namespace {

bool BeginsComment(char c) { return c == '#' || c == ';'; }

absl::string_view WithoutComment(absl::string_view value) {
  for (size_t i = 0; i < value.size(); ++i) {
    if (BeginsComment(value[i]) &&
        (i == 0 || absl::ascii_isspace(static_cast<unsigned char>(value[i - 1])))) {
      return value.substr(0, i);
    }
  }
  return value;
}

// White space within it counts once, and quotes are dropped: "[profile  'x']" is "[profile x]".
std::string SectionName(absl::string_view line) {
  std::string name(line.substr(1, line.find(']') - 1));
  std::erase_if(name, [](char c) { return c == '"' || c == '\''; });
  absl::RemoveExtraAsciiWhitespace(&name);
  return name;
}

}  // namespace

IniFile ParseIni(absl::string_view text) {
  IniFile file;
  IniSection* section = &file[""];
  // Of the setting above, in its section.
  std::optional<size_t> indent;
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view words = absl::StripAsciiWhitespace(line);
    if (words.empty() || BeginsComment(words[0])) {
      continue;
    }
    const size_t indented = words.data() - line.data();
    if (indent.has_value() && indented > *indent) {
      continue;
    }
    if (words[0] == '[' && absl::StrContains(words, ']')) {
      section = &file[SectionName(words)];
      indent.reset();
      continue;
    }
    const size_t equals = words.find('=');
    if (equals != absl::string_view::npos) {
      indent = indented;
      const absl::string_view name = absl::StripAsciiWhitespace(words.substr(0, equals));
      const absl::string_view value = absl::StripAsciiWhitespace(
          WithoutComment(absl::StripAsciiWhitespace(words.substr(equals + 1))));
      (*section)[absl::AsciiStrToLower(name)] = std::string(value);
    }
  }
  return file;
}

std::string ValueOf(const IniSection& section, absl::string_view name) {
  const auto found = section.find(std::string(name));
  return found == section.end() ? "" : found->second;
}

}  // namespace weightd::source
