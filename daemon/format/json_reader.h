#ifndef WEIGHTD_DAEMON_FORMAT_JSON_READER_H_
#define WEIGHTD_DAEMON_FORMAT_JSON_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd::format {

// Reads one JSON text (RFC 8259) from front to back and checks every byte of it, also of values
// that are skipped. What is accepted is what serde_json accepts, because that is what reads
// safetensors headers elsewhere: nesting of at most 127, no lone surrogates, no number beyond a
// double, and integers told apart from 1.0, 1e0 and -0. (A DOM loses that last difference, and the
// offsets that errors name.) Errors are kMalformedModel with file, byte offset and rule.
//
// Views it returns are valid until the next call. After an error it is of no more use. Not
// thread-safe.
class JsonReader {
 public:
  // Fails if `text` is not UTF-8. `text` and `file_name` outlive the reader; `base` is the offset
  // in the file of the text's first byte.
  static absl::StatusOr<JsonReader> Open(absl::string_view text, absl::string_view file_name,
                                         uint64_t base);

  // The value that comes next is read by `member` for each member of the object, or `element` of
  // the array; each call reads exactly one value.
  absl::Status ReadObject(absl::FunctionRef<absl::Status(absl::string_view key)> member);
  absl::Status ReadArray(absl::FunctionRef<absl::Status()> element);
  absl::StatusOr<absl::string_view> ReadString();
  // An integer without sign, fraction or exponent, below 2^64.
  absl::StatusOr<uint64_t> ReadUnsigned();
  // Whether the next value is null; takes it if so.
  bool TakeNull();
  // Any value.
  absl::Status Skip();
  // Only white space is left.
  absl::Status Finish();

  // Where the key that ReadObject gave last began, or else the next byte, counted from the file's
  // first byte.
  uint64_t key_offset() const { return base_ + key_; }
  uint64_t offset() const { return base_ + at_; }

  absl::Status ErrorAt(uint64_t offset, absl::string_view rule) const;

 private:
  JsonReader(absl::string_view text, absl::string_view file_name, uint64_t base)
      : text_(text), file_name_(file_name), base_(base) {}

  absl::Status Fail(absl::string_view rule) const { return ErrorAt(base_ + at_, rule); }
  void SkipSpace();
  bool Take(char expected);
  bool TakeWord(absl::string_view word);
  absl::Status Descend(char open, absl::string_view wanted);
  absl::Status ReadEscape();
  absl::StatusOr<uint32_t> ReadHex4();
  absl::StatusOr<absl::string_view> ReadNumber();

  absl::string_view text_;
  absl::string_view file_name_;
  uint64_t base_;
  size_t at_ = 0;
  size_t key_ = 0;
  int depth_ = 0;
  // The last string, if it had escapes.
  std::string unescaped_;
};

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_JSON_READER_H_
