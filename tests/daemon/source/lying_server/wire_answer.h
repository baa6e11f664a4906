#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_WIRE_ANSWER_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_WIRE_ANSWER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/byte_range.h"

namespace weightd::source {

// What an answer is about.
struct Asked {
  // Of the object, and of another version of the same size.
  const std::string* object = nullptr;
  const std::string* newer = nullptr;
  // Nothing if the whole object was asked for.
  std::optional<ByteRange> range;
  // The path of the request, with its query.
  std::string target;
  // Of a server that gives the same objects.
  std::string elsewhere;
  std::string here;

  ByteRange WantedRange() const { return range.value_or(ByteRange{0, object->size()}); }
};

// An answer as it goes over the wire: head, body and what happens to the connection.
struct WireAnswer {
  // The right one. `asked.object` is there.
  static WireAnswer Right(Asked asked);

  // The first of that name; appended if there is none. An empty value removes it.
  void Set(absl::string_view name, std::string value);
  std::string Get(absl::string_view name) const;
  void Add(std::string name, std::string value) {
    fields.emplace_back(std::move(name), std::move(value));
  }
  // An answer with this status and body, and nothing else that counts.
  void Become(int status, std::string text);
  // Another body, and what is said about its length.
  void SetBody(std::string bytes);
  // A 206 of this range of `bytes`.
  void SetPart(const std::string& bytes, ByteRange range);

  // Status line and fields, without the empty line.
  std::string Head() const;
  // All of it; `raw` if there is one.
  std::string Bytes() const;

  Asked asked;
  std::string status_line;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;

  // Goes in front of the status line, and behind the body.
  std::string before;
  std::string after;
  // Instead of everything above.
  std::optional<std::string> raw;
  // Sent over and over behind all that, until the client goes.
  std::string endless;

  // After so many bytes of it, the connection ends in this way.
  size_t most_bytes = SIZE_MAX;
  enum class End { kKept, kClosed, kReset, kSilent };
  End end = End::kKept;

  // Pauses between steps of so many bytes, as long as the client stays, or up to `slow_bytes`.
  absl::Duration pause = absl::ZeroDuration();
  size_t step = 1;
  size_t slow_bytes = 0;
};

// Sends it. False if the connection shall end.
bool Send(int connection, const WireAnswer& answer);

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_WIRE_ANSWER_H_
