#include "tests/daemon/source/lying_server/wire_answer.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/servers/loopback_server.h"

namespace weightd::source {
namespace {

auto Named(absl::string_view name) {
  return [name](const auto& field) { return absl::EqualsIgnoreCase(field.first, name); };
}

// False if the client went.
bool SendSlowly(int connection, const WireAnswer& answer, absl::string_view* bytes) {
  size_t left = answer.pause > absl::ZeroDuration() ? answer.slow_bytes : 0;
  while (left > 0 && !bytes->empty()) {
    const size_t step = std::min({left, answer.step, bytes->size()});
    if (!SendAll(connection, bytes->substr(0, step))) {
      return false;
    }
    bytes->remove_prefix(step);
    left -= step;
    // The slowness is what the client shall meet; nothing is waited for.
    absl::SleepFor(answer.pause);
  }
  return true;
}

}  // namespace

WireAnswer WireAnswer::Right(Asked asked) {
  WireAnswer answer;
  const std::string& object = *asked.object;
  const std::optional<ByteRange> range = asked.range;
  answer.asked = std::move(asked);
  answer.fields = {{"Date", "Sat, 01 Jan 2022 00:00:00 GMT"},
                   {"ETag", "\"v1\""},
                   {"Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"},
                   {"Content-Type", "application/octet-stream"}};
  if (range.has_value() && range->begin >= object.size()) {
    answer.Become(416, "");
  } else if (range.has_value()) {
    answer.SetPart(object, {range->begin, std::min<uint64_t>(range->end, object.size())});
  } else {
    answer.status_line = "HTTP/1.1 200 OK";
    answer.SetBody(object);
  }
  return answer;
}

void WireAnswer::Set(absl::string_view name, std::string value) {
  const auto found = std::find_if(fields.begin(), fields.end(), Named(name));
  if (value.empty()) {
    fields.erase(std::remove_if(fields.begin(), fields.end(), Named(name)), fields.end());
  } else if (found != fields.end()) {
    found->second = std::move(value);
  } else {
    Add(std::string(name), std::move(value));
  }
}

std::string WireAnswer::Get(absl::string_view name) const {
  const auto found = std::find_if(fields.begin(), fields.end(), Named(name));
  return found == fields.end() ? "" : found->second;
}

void WireAnswer::Become(int status, std::string text) {
  status_line = absl::StrCat("HTTP/1.1 ", status, " Said");
  fields.clear();
  SetBody(std::move(text));
}

void WireAnswer::SetBody(std::string bytes) {
  body = std::move(bytes);
  Set("Content-Length", absl::StrCat(body.size()));
}

void WireAnswer::SetPart(const std::string& bytes, ByteRange range) {
  status_line = "HTTP/1.1 206 Partial Content";
  SetBody(bytes.substr(range.begin, range.size()));
  Set("Content-Range", absl::StrCat("bytes ", range.begin, "-", range.end - 1, "/", bytes.size()));
}

std::string WireAnswer::Head() const {
  std::string head = absl::StrCat(status_line, "\r\n");
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  }
  return head;
}

std::string WireAnswer::Bytes() const {
  return raw.has_value() ? *raw : absl::StrCat(before, Head(), "\r\n", body, after);
}

bool Send(int connection, const WireAnswer& answer) {
  const std::string bytes = answer.Bytes();
  absl::string_view left = absl::string_view(bytes).substr(0, answer.most_bytes);
  if (!SendSlowly(connection, answer, &left) || !SendAll(connection, left)) {
    return false;
  }
  while (!answer.endless.empty()) {
    if (!SendAll(connection, answer.endless)) {
      return false;
    }
  }
  if (answer.end == WireAnswer::End::kReset) {
    Reset(connection);
  } else if (answer.end == WireAnswer::End::kSilent) {
    AwaitEnd(connection);
  }
  return answer.end == WireAnswer::End::kKept;
}

}  // namespace weightd::source
