#ifndef WEIGHTD_DAEMON_CONVERT_OUTPUT_FILE_H_
#define WEIGHTD_DAEMON_CONVERT_OUTPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/fd.h"

namespace weightd::convert {

// Why an output can't be written, by errno: kOutputNotCreated where it may not be made at all,
// kOutputNotWritten where the disk doesn't take its bytes.
absl::Status CantWrite(int error_number, const std::string& path);

// A file that is filled in any order, by several threads at once. Errors are CantWrite's.
class OutputFile {
 public:
  // A new file of `bytes` zeros.
  static absl::StatusOr<OutputFile> Create(std::string path, uint64_t bytes);

  // Thread-safe.
  absl::Status Write(uint64_t offset, absl::Span<const std::byte> bytes) const;
  absl::Status Write(uint64_t offset, absl::string_view bytes) const;
  // Waits until the disk has it.
  absl::Status Flush() const;

 private:
  OutputFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  Fd fd_;
};

// A folder beside `target` in which a file or folder is made until it is whole. It goes when this
// goes, with all that is in it: a process that is killed leaves it, hidden, and never a half
// `target`.
class Draft {
 public:
  // kOutputNotCreated if there is something at `target` already, or no folder to make it in.
  static absl::StatusOr<Draft> Beside(const std::string& target);
  ~Draft();
  Draft(Draft&& other) noexcept;
  Draft& operator=(Draft&&) = delete;

  // Where to make it; nothing is there yet.
  std::string path() const;
  // kOutputNotWritten if its file system has less room than that.
  absl::Status CheckRoom(uint64_t bytes) const;
  // Gives what was made its name, in one step, on disk. An error if that exists by now.
  absl::Status Publish();

 private:
  Draft(std::string target, std::string folder)
      : target_(std::move(target)), folder_(std::move(folder)) {}

  std::string target_;
  // Ours alone. Empty once moved from.
  std::string folder_;
};

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_OUTPUT_FILE_H_
