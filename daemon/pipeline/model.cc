#include "daemon/pipeline/model.h"

namespace weightd::pipeline {

absl::Status CheckFiles(const std::vector<ModelFile>& files,
                        const std::optional<ModelFile>& index_file,
                        const source::ReadPolicy& policy) {
  if (policy.denied == nullptr) {
    return absl::OkStatus();
  }
  std::vector<const source::ObjectVersion*> objects;
  objects.reserve(files.size() + 1);
  for (const ModelFile& file : files) {
    objects.push_back(&file.version);
  }
  if (index_file.has_value()) {
    objects.push_back(&index_file->version);
  }
  return source::CheckOrigins(objects, policy);
}

}  // namespace weightd::pipeline
