#ifndef WEIGHTD_DAEMON_CONFIG_VALUES_H_
#define WEIGHTD_DAEMON_CONFIG_VALUES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/config_fields.h"
#include "google/protobuf/repeated_field.h"

// Whether single values of the config are what they should be; errors name the line of the field
// at `path`.

namespace weightd {

struct Range {
  uint64_t least;
  uint64_t most;
};

absl::Status CheckRange(uint64_t value, Range range, absl::string_view path,
                        const FieldLines& lines, absl::string_view hint = {});

// That it consists of letters, digits, `.`, `_`, `-`, `/`; a letter or digit first, so that no name
// looks like a path.
absl::Status CheckName(const std::string& name, absl::string_view path, const FieldLines& lines);

absl::Status CheckOneOf(const std::string& value, absl::Span<const absl::string_view> allowed,
                        absl::string_view path, const FieldLines& lines);

// That each is a pattern of access.
absl::Status CheckPatterns(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                           absl::string_view path, const FieldLines& lines);
// Of models: also that each can match one.
absl::Status CheckModelPatterns(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                                absl::string_view path, const FieldLines& lines);

// That it is an IP address and a port to listen at, "127.0.0.1:9464" or "[::]:9464".
absl::Status CheckListenAddress(absl::string_view value, absl::string_view path,
                                const FieldLines& lines);

// That the path which the field `field` holds begins at / and has no `..`.
absl::Status CheckAbsolutePath(absl::string_view path, absl::string_view field,
                               const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_VALUES_H_
