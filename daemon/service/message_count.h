#ifndef WEIGHTD_DAEMON_SERVICE_MESSAGE_COUNT_H_
#define WEIGHTD_DAEMON_SERVICE_MESSAGE_COUNT_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weightd::service {

// Which fields of a message have messages, or single texts, that take no more than they are long.
// Numbers are those of the .proto file.
struct MessageShape {
  struct Below {
    int field;
    // Null: it is a text or packed numbers.
    const MessageShape* shape;
  };
  absl::Span<const Below> fields;
};

// Whether an encoded message has at most `most` messages and texts in it, those of unknown fields
// included, but for texts that `shape` names. Looked at before it is parsed: an empty message takes
// two bytes on the wire and a hundred in memory. False for what isn't a message.
bool HasFewMessages(absl::string_view encoded, const MessageShape& shape, int64_t most);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_MESSAGE_COUNT_H_
