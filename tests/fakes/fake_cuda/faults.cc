#include "tests/fakes/fake_cuda/faults.h"

#include <sys/stat.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/fakes/fake_cuda/errors.h"
#include "tests/fakes/fake_cuda/store.h"

namespace weightd::fake_cuda {
namespace {

std::string PathOf(const std::string& dir) { return dir + "/faults"; }

std::string ReadLocked(const std::string& dir) {
  std::stringstream text;
  text << std::ifstream(PathOf(dir)).rdbuf();
  return text.str();
}

// Replaced whole: AnyFaults looks without the lock, and must not see it empty in between.
void WriteLocked(const std::string& dir, absl::string_view text) {
  const std::string fresh = PathOf(dir) + ".new";
  std::ofstream(fresh, std::ios::trunc) << text;
  chmod(fresh.c_str(), 0666);
  std::rename(fresh.c_str(), PathOf(dir).c_str());
}

[[noreturn]] void Refuse(absl::string_view line) {
  std::fprintf(stderr, "fake_cuda: a line of the faults that says nothing: \"%s\"\n",
               std::string(line).c_str());
  std::abort();
}

// The result of a line whose turn it is.
cuda::CUresult Strike(absl::string_view line, absl::string_view result) {
  if (result == "KILL") {
    raise(SIGKILL);
  }
  const std::optional<cuda::CUresult> named = ErrorNamed(result);
  if (!named.has_value()) {
    Refuse(line);
  }
  return *named;
}

}  // namespace

bool AnyFaults(const std::string& dir) {
  struct stat status = {};
  return stat(PathOf(dir).c_str(), &status) == 0 && status.st_size > 0;
}

cuda::CUresult NextFault(const std::string& dir, absl::string_view function) {
  const FolderLock lock(dir);
  std::vector<std::string> kept;
  std::optional<std::pair<std::string, std::string>> due;
  bool changed = false;
  for (const absl::string_view line : absl::StrSplit(ReadLocked(dir), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t count = 0;
    if (words.size() != 3) {
      Refuse(line);
    }
    if (words[0] != function || due.has_value()) {
      kept.emplace_back(line);
    } else if (words[1] == "*") {
      kept.emplace_back(line);
      due.emplace(line, words[2]);
    } else if (!absl::SimpleAtoi(words[1], &count) || count == 0) {
      Refuse(line);
    } else {
      changed = true;
      if (count > 1) {
        kept.push_back(absl::StrCat(words[0], " ", count - 1, " ", words[2]));
      } else {
        due.emplace(line, words[2]);
      }
    }
  }
  if (changed) {
    WriteLocked(dir, absl::StrCat(absl::StrJoin(kept, "\n"), kept.empty() ? "" : "\n"));
  }
  return due.has_value() ? Strike(due->first, due->second) : cuda::CUDA_SUCCESS;
}

bool IsLost(const std::string& dir, int ordinal) {
  const std::string lost = absl::StrCat("device ", ordinal, " lost");
  const FolderLock lock(dir);
  for (const absl::string_view line : absl::StrSplit(ReadLocked(dir), '\n')) {
    if (line == lost) {
      return true;
    }
  }
  return false;
}

void AddFault(const std::string& dir, absl::string_view line) {
  const FolderLock lock(dir);
  WriteLocked(dir, absl::StrCat(ReadLocked(dir), line, "\n"));
}

void RemoveFaults(const std::string& dir) {
  const FolderLock lock(dir);
  WriteLocked(dir, "");
}

}  // namespace weightd::fake_cuda
