#include "daemon/pipeline/model.h"

#include "absl/strings/str_cat.h"

namespace weightd::pipeline {
namespace {

template <typename T>
absl::Status CheckFilesOf(const T& model, const source::ReadPolicy& policy) {
  if (policy.denied == nullptr) {
    return absl::OkStatus();
  }
  std::vector<const source::ObjectVersion*> objects;
  objects.reserve(model.files.size() + model.small_files.size() + 1);
  for (const ModelFile& file : model.files) {
    objects.push_back(&file.version);
  }
  if (model.index_file.has_value()) {
    objects.push_back(&model.index_file->version);
  }
  for (const SmallFile& small : model.small_files) {
    objects.push_back(&small.file.version);
  }
  return source::CheckOrigins(objects, policy);
}

// Digits of a revision that tell it from others to people.
constexpr size_t kShortRevision = 12;

}  // namespace

std::string SegmentLabel(const Uri& uri, const RevisionId& revision) {
  return absl::StrCat(uri.Redacted(), "@", revision.hex().substr(0, kShortRevision));
}

absl::Status CheckFiles(const ResolvedModel& model, const source::ReadPolicy& policy) {
  return CheckFilesOf(model, policy);
}

absl::Status CheckFiles(const ModelIndex& model, const source::ReadPolicy& policy) {
  return CheckFilesOf(model, policy);
}

}  // namespace weightd::pipeline
