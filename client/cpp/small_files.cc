#include "client/cpp/small_files.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cpp/sealed_file.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::client {
namespace {

absl::Status Broken(const v1::SmallFile& file, absl::string_view what) {
  return Error(Reason::kMalformedModel,
               absl::StrCat("the daemon's index has a file ", PrintableText(file.name()), what),
               "the daemon is broken or is not weightd; report it");
}

// Whether a file of that name, made in a folder, is below it.
bool StaysInside(absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  for (const absl::string_view part : parts) {
    if (part.empty() || part == "." || part == ".." || part.find('\0') != absl::string_view::npos) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<SmallFiles> SmallFiles::Map(const ClaimedHandles& handles) {
  if (!handles.small_files.valid()) {
    return SmallFiles();
  }
  ASSIGN_OR_RETURN(SealedMapping mapped,
                   MapSealed(handles.small_files.get(), handles.small_file_bytes,
                             Access::kSharedReadOnly, "the segment of small files"));
  return SmallFiles(std::move(mapped.mapping));
}

absl::StatusOr<std::map<std::string, absl::string_view>> SmallFiles::All(
    const v1::TensorIndex& index) const {
  std::map<std::string, absl::string_view> files;
  for (const v1::SmallFile& file : index.small_files()) {
    if (!file.left_out().empty()) {
      continue;
    }
    ASSIGN_OR_RETURN(const absl::string_view view, View(file));
    if (!files.emplace(file.name(), view).second) {
      return Broken(file, " twice");
    }
  }
  return files;
}

absl::StatusOr<absl::string_view> SmallFiles::Find(const v1::TensorIndex& index,
                                                   absl::string_view name) const {
  for (const v1::SmallFile& file : index.small_files()) {
    if (file.name() != name) {
      continue;
    }
    if (file.left_out().empty()) {
      return View(file);
    }
    return Error(Reason::kFileNotFound,
                 absl::StrCat("model ", index.model(), ": weightd doesn't keep ",
                              PrintableText(name), ": ", file.left_out()),
                 "read it where the model lies");
  }
  return Error(Reason::kFileNotFound,
               absl::StrCat("model ", index.model(), " has no file ", PrintableText(name)),
               "files() lists what it has");
}

absl::StatusOr<absl::string_view> SmallFiles::View(const v1::SmallFile& file) const {
  if (!StaysInside(file.name())) {
    return Broken(file, ", which is no name in a folder");
  }
  if (file.offset() > bytes_.size() || file.nbytes() > bytes_.size() - file.offset()) {
    return Broken(file, " beyond what it sent");
  }
  return absl::string_view(reinterpret_cast<const char*>(bytes_.data()) + file.offset(),
                           file.nbytes());
}

}  // namespace weightd::client
