#ifndef WEIGHTD_CLIENT_CLI_JSON_WRITER_H_
#define WEIGHTD_CLIENT_CLI_JSON_WRITER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

namespace weightd::cli {

// Writes JSON on one line. The caller's calls must make a value: keys only in objects, ends for
// every begin.
class JsonWriter {
 public:
  JsonWriter& BeginObject();
  JsonWriter& EndObject();
  JsonWriter& BeginArray();
  JsonWriter& EndArray();
  JsonWriter& Key(absl::string_view key);

  // What is no UTF-8 becomes "?".
  JsonWriter& String(absl::string_view value);
  // Plain numbers, also above 2^53, which readers that keep 64-bit integers (jq 1.7, Python) get
  // exactly.
  JsonWriter& Number(uint64_t value);
  JsonWriter& Number(double value);
  JsonWriter& Signed(int64_t value);
  JsonWriter& Bool(bool value);

  // A message as an object: field names as in the .proto, all fields but unset messages, enums by
  // name, timestamps in RFC 3339, durations in seconds.
  JsonWriter& Message(const google::protobuf::Message& message);

  const std::string& text() const { return text_; }

 private:
  void BeginValue();

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_JSON_WRITER_H_
