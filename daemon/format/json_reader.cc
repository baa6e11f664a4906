#include "daemon/format/json_reader.h"

#include <cmath>
#include <optional>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/charconv.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/format/malformed.h"

namespace weightd::format {
namespace {

// serde_json's recursion limit.
constexpr int kMaxDepth = 127;
// serde_json computes doubles inexactly, so near their end it refuses some that fit. This lies
// below all of those.
constexpr double kLargestNumber = 1.797693134862315e308;

void AppendUtf8(uint32_t code_point, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    tail(0);
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

// The character that `\` and `letter` stand for.
std::optional<char> SimpleEscape(char letter) {
  switch (letter) {
    case '"':
    case '\\':
    case '/':
      return letter;
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<JsonReader> JsonReader::Open(absl::string_view text, absl::string_view file_name,
                                            uint64_t base) {
  JsonReader reader(text, file_name, base);
  if (const std::optional<size_t> at = FirstInvalidUtf8(text); at.has_value()) {
    return reader.ErrorAt(base + *at, "the JSON must be UTF-8");
  }
  return reader;
}

absl::Status JsonReader::ErrorAt(uint64_t offset, absl::string_view rule) const {
  return MalformedAt(file_name_, offset, rule);
}

void JsonReader::SkipSpace() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
    ++at_;
  }
}

bool JsonReader::Take(char expected) {
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == expected) {
    ++at_;
    return true;
  }
  return false;
}

bool JsonReader::TakeWord(absl::string_view word) {
  SkipSpace();
  if (text_.substr(at_, word.size()) != word) {
    return false;
  }
  at_ += word.size();
  return true;
}

absl::Status JsonReader::Descend(char open, absl::string_view wanted) {
  if (!Take(open)) {
    return Fail(absl::StrCat("expected ", wanted));
  }
  if (++depth_ > kMaxDepth) {
    return Fail(absl::StrCat("nested deeper than ", kMaxDepth));
  }
  return absl::OkStatus();
}

absl::Status JsonReader::ReadObject(absl::FunctionRef<absl::Status(absl::string_view)> member) {
  RETURN_IF_ERROR(Descend('{', "an object"));
  if (!Take('}')) {
    do {
      SkipSpace();
      const size_t key_at = at_;
      ASSIGN_OR_RETURN(const absl::string_view key, ReadString());
      if (!Take(':')) {
        return Fail("expected ':'");
      }
      key_ = key_at;
      RETURN_IF_ERROR(member(key));
    } while (Take(','));
    if (!Take('}')) {
      return Fail("expected ',' or '}'");
    }
  }
  --depth_;
  return absl::OkStatus();
}

absl::Status JsonReader::ReadArray(absl::FunctionRef<absl::Status()> element) {
  RETURN_IF_ERROR(Descend('[', "an array"));
  if (!Take(']')) {
    do {
      RETURN_IF_ERROR(element());
    } while (Take(','));
    if (!Take(']')) {
      return Fail("expected ',' or ']'");
    }
  }
  --depth_;
  return absl::OkStatus();
}

absl::StatusOr<absl::string_view> JsonReader::ReadString() {
  if (!Take('"')) {
    return Fail("expected a string");
  }
  size_t begin = at_;
  bool escaped = false;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"') {
      const absl::string_view tail = text_.substr(begin, at_++ - begin);
      if (!escaped) {
        return tail;
      }
      unescaped_.append(tail.data(), tail.size());
      return absl::string_view(unescaped_);
    }
    if (static_cast<unsigned char>(c) < 0x20) {
      return Fail("control character in a string");
    }
    if (c != '\\') {
      ++at_;
      continue;
    }
    if (!escaped) {
      unescaped_.clear();
      escaped = true;
    }
    unescaped_.append(text_.data() + begin, at_ - begin);
    RETURN_IF_ERROR(ReadEscape());
    begin = at_;
  }
  return Fail("the string does not end");
}

absl::Status JsonReader::ReadEscape() {
  const size_t begin = at_++;
  const char letter = at_ < text_.size() ? text_[at_] : '\0';
  if (const std::optional<char> simple = SimpleEscape(letter); simple.has_value()) {
    unescaped_.push_back(*simple);
    ++at_;
    return absl::OkStatus();
  }
  if (letter != 'u') {
    return ErrorAt(base_ + begin, "unknown escape in a string");
  }
  ++at_;
  ASSIGN_OR_RETURN(uint32_t code_point, ReadHex4());
  if (code_point >= 0xD800 && code_point < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    ASSIGN_OR_RETURN(const uint32_t low, ReadHex4());
    if (low < 0xDC00 || low > 0xDFFF) {
      return ErrorAt(base_ + begin, "lone surrogate in a string");
    }
    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code_point >= 0xD800 && code_point <= 0xDFFF) {
    return ErrorAt(base_ + begin, "lone surrogate in a string");
  }
  AppendUtf8(code_point, unescaped_);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> JsonReader::ReadHex4() {
  const absl::string_view digits = text_.substr(at_, 4);
  uint32_t value = 0;
  for (char digit : digits) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(digit))) {
      return Fail("\\u needs four hexadecimal digits");
    }
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(digit));
    value = value * 16 + static_cast<uint32_t>(lower <= '9' ? lower - '0' : lower - 'a' + 10);
  }
  if (digits.size() != 4) {
    return Fail("\\u needs four hexadecimal digits");
  }
  at_ += 4;
  return value;
}

absl::StatusOr<absl::string_view> JsonReader::ReadNumber() {
  SkipSpace();
  const size_t begin = at_;
  const auto next = [&] { return at_ < text_.size() ? text_[at_] : '\0'; };
  const auto digits = [&] {
    const size_t first = at_;
    while (next() >= '0' && next() <= '9') {
      ++at_;
    }
    return at_ - first;
  };
  at_ += next() == '-' ? 1 : 0;
  const bool zero = next() == '0';
  const size_t whole = digits();
  bool valid = whole == 1 || (whole > 1 && !zero);
  if (next() == '.') {
    ++at_;
    valid = digits() > 0 && valid;
  }
  if (next() == 'e' || next() == 'E') {
    ++at_;
    at_ += next() == '+' || next() == '-' ? 1 : 0;
    valid = digits() > 0 && valid;
  }
  if (!valid) {
    return ErrorAt(base_ + begin, at_ == begin ? "expected a value" : "not a JSON number");
  }
  return text_.substr(begin, at_ - begin);
}

absl::StatusOr<uint64_t> JsonReader::ReadUnsigned() {
  SkipSpace();
  const uint64_t begin = offset();
  ASSIGN_OR_RETURN(const absl::string_view number, ReadNumber());
  uint64_t value = 0;
  for (char c : number) {
    if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, static_cast<uint64_t>(c - '0'), &value)) {
      return ErrorAt(begin, "expected an unsigned 64-bit integer");
    }
  }
  return value;
}

bool JsonReader::TakeNull() { return TakeWord("null"); }

absl::Status JsonReader::Skip() {
  SkipSpace();
  switch (at_ < text_.size() ? text_[at_] : '\0') {
    case '{':
      return ReadObject([&](absl::string_view) { return Skip(); });
    case '[':
      return ReadArray([&] { return Skip(); });
    case '"':
      return ReadString().status();
    default:
      break;
  }
  if (TakeWord("null") || TakeWord("true") || TakeWord("false")) {
    return absl::OkStatus();
  }
  const uint64_t begin = offset();
  ASSIGN_OR_RETURN(const absl::string_view number, ReadNumber());
  double value = 0;
  const auto result = absl::from_chars(number.data(), number.data() + number.size(), value);
  const bool underflow = result.ec == std::errc::result_out_of_range && std::abs(value) < 1;
  if ((result.ec != std::errc() && !underflow) || std::abs(value) > kLargestNumber) {
    return ErrorAt(begin, "number out of range");
  }
  return absl::OkStatus();
}

absl::Status JsonReader::Finish() {
  SkipSpace();
  if (at_ != text_.size()) {
    return Fail("expected the end of the JSON");
  }
  return absl::OkStatus();
}

}  // namespace weightd::format
