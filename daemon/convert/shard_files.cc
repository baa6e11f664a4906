#include "daemon/convert/shard_files.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/convert/output_file.h"

namespace weightd::convert {

absl::Status ShardFiles::Plan() {
  file_bytes_.reserve(shards_.size());
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    ASSIGN_OR_RETURN(const std::unique_ptr<ShardWriter> writer, Make(shard));
    file_bytes_.push_back(writer->file_bytes());
  }
  return absl::OkStatus();
}

absl::Status ShardFiles::Open(std::string path) {
  path_ = std::move(path);
  if (shards_.front().name.empty()) {
    return absl::OkStatus();
  }
  std::error_code error;
  std::filesystem::create_directory(path_, error);
  return error ? CantWrite(error.value(), path_) : absl::OkStatus();
}

absl::StatusOr<ShardWriter*> ShardFiles::WriterOf(size_t shard) {
  absl::MutexLock lock(&mutex_);
  OpenShard& open = open_[shard];
  if (open.writer == nullptr) {
    ASSIGN_OR_RETURN(open.writer, MakeAndOpen(shard));
    open.tensors_left = shards_[shard].tensors.size();
  }
  return open.writer.get();
}

absl::Status ShardFiles::TensorDone(size_t shard) {
  std::unique_ptr<ShardWriter> whole;
  {
    absl::MutexLock lock(&mutex_);
    const auto open = open_.find(shard);
    if (--open->second.tensors_left > 0) {
      return absl::OkStatus();
    }
    whole = std::move(open->second.writer);
    open_.erase(open);
  }
  return whole->Finish();
}

absl::Status ShardFiles::FinishEmpty() {
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    if (shards_[shard].tensors.empty()) {
      ASSIGN_OR_RETURN(const std::unique_ptr<ShardWriter> writer, MakeAndOpen(shard));
      RETURN_IF_ERROR(writer->Finish());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardFiles::Make(size_t shard) const {
  if (options_.format == OutputFormat::kTensorizer) {
    return MakeTensorizerWriter(shards_[shard], options_.sealing);
  }
  // The metadata may be long: the first file has it.
  return MakeSafetensorsWriter(
      shards_[shard],
      NewMetadata(shard == 0 ? options_.metadata : std::map<std::string, std::string>()));
}

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardFiles::MakeAndOpen(size_t shard) const {
  ASSIGN_OR_RETURN(std::unique_ptr<ShardWriter> writer, Make(shard));
  const std::string& name = shards_[shard].name;
  RETURN_IF_ERROR(writer->Open(name.empty() ? path_ : absl::StrCat(path_, "/", name)));
  return writer;
}

}  // namespace weightd::convert
