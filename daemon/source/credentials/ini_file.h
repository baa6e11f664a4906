#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_INI_FILE_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_INI_FILE_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace weightd::source {

// The settings of one section; names in lower case.
using IniSection = std::map<std::string, std::string>;

// Sections by name, without the brackets. What stands before the first is in "".
using IniFile = std::map<std::string, IniSection>;

// Reads what AWS' tools and s3cmd write (AWS SDKs and Tools Reference, "Shared config and
// credentials files"; AWS SDK for Java 2.x, "Profile file changes"): lines that begin with "#" or
// ";" are comments, as is the rest of a value from a "#" or ";" after white space; lines that
// are indented deeper than the setting above belong to it and are skipped; sections of one name are
// one, the last of two settings counts. Lines that are none of these are skipped, as these tools
// do. Pure.
IniFile ParseIni(absl::string_view text);

// "" if the section has none.
std::string ValueOf(const IniSection& section, absl::string_view name);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_INI_FILE_H_
