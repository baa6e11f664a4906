#include "daemon/convert/convert.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "daemon/convert/batches.h"
#include "daemon/convert/cast.h"
#include "daemon/convert/input.h"
#include "daemon/convert/key_trial.h"
#include "daemon/convert/output_file.h"
#include "daemon/convert/shard_files.h"
#include "daemon/convert/shard_writer.h"
#include "daemon/convert/tensor_reader.h"
#include "daemon/convert/workers.h"
#include "daemon/format/safetensors_writer.h"
#include "daemon/format/secretbox.h"
#include "daemon/format/shard_index.h"
#include "daemon/pipeline/record_sums.h"

namespace weightd::convert {
namespace {

// A tensor, by its shard and its number there.
struct Task {
  size_t shard = 0;
  size_t tensor = 0;
};

// Cast at once.
constexpr size_t kCastBytes = 1 << 20;

absl::StatusOr<Sealing> MakeSealing(const pipeline::ModelKey& secret) {
  if (!secret.password) {
    return Sealing{.key = secret.secret};
  }
  Sealing sealing = {.key = {}, .password = format::NewPasswordHashing()};
  ASSIGN_OR_RETURN(sealing.key, format::KeyOfPassword(secret.secret.bytes(), *sealing.password));
  return sealing;
}

class Conversion {
 public:
  Conversion(const Input& input, const ConvertRequest& request, Report report,
             Cancellation& cancellation)
      : input_(input),
        request_(request),
        report_(report),
        cancellation_(cancellation),
        keys_(request.key, nullptr) {}

  absl::StatusOr<std::vector<ConvertedFile>> Run() {
    RETURN_IF_ERROR(CheckKey(input_, keys_));
    RETURN_IF_ERROR(TryKey(input_, keys_, cancellation_));
    if (request_.encrypt.has_value()) {
      ASSIGN_OR_RETURN(sealing_, MakeSealing(*request_.encrypt));
    }
    ASSIGN_OR_RETURN(shards_, PlanConversion(input_, request_.options));
    ASSIGN_OR_RETURN(Draft draft, Draft::Beside(request_.output));
    draft_.emplace(std::move(draft));
    RETURN_IF_ERROR(draft_->CheckRoom(StoredBytes()));
    files_.emplace(&shards_, ShardFiles::Options{.format = request_.options.format,
                                                 .metadata = input_.Metadata(),
                                                 .sealing = sealing_ ? &*sealing_ : nullptr});
    RETURN_IF_ERROR(files_->Plan());
    RETURN_IF_ERROR(files_->Open(draft_->path()));
    RETURN_IF_ERROR(ConvertTensors());
    RETURN_IF_ERROR(files_->FinishEmpty());
    RETURN_IF_ERROR(WriteIndex(draft_->path()));
    RETURN_IF_ERROR(draft_->Publish());
    return Files();
  }

 private:
  bool is_folder() const { return request_.options.shard_bytes > 0; }

  std::string PathIn(const std::string& folder, const std::string& name) const {
    return is_folder() ? absl::StrCat(folder, "/", name) : folder;
  }

  // Of all tensors; the largest number if it is larger.
  uint64_t StoredBytes() const {
    uint64_t bytes = 0;
    for (const Shard& shard : shards_) {
      for (const TensorToConvert& tensor : shard.tensors) {
        const uint64_t room = std::numeric_limits<uint64_t>::max() - bytes;
        bytes += std::min(tensor.to.bytes.size(), room);
      }
    }
    return bytes;
  }

  absl::Status ConvertTensors() {
    std::vector<Task> tasks;
    std::vector<TensorPlace> places;
    {
      absl::MutexLock lock(&mutex_);
      for (size_t shard = 0; shard < shards_.size(); ++shard) {
        for (size_t i = 0; i < shards_[shard].tensors.size(); ++i) {
          const TensorToConvert& tensor = shards_[shard].tensors[i];
          tasks.push_back({shard, i});
          places.push_back({tensor.file, tensor.from});
          progress_.bytes_total += tensor.from->bytes.size();
        }
      }
    }
    // Few of many files are open at once if tensors come in their order.
    const ReadOrder order = shards_.size() > 1 ? ReadOrder::kAsGiven : ReadOrder::kLargestFirst;
    return ForEachTensor(
        input_, request_.verify, keys_, places, order,
        [&](size_t i, TensorReader& reader, Cancellation& stop) -> absl::Status {
          RETURN_IF_ERROR(ConvertTensor(tasks[i], reader, stop));
          return files_->TensorDone(tasks[i].shard);
        },
        cancellation_);
  }

  absl::Status ConvertTensor(const Task& task, TensorReader& reader, Cancellation& stop) {
    const TensorToConvert& tensor = TensorOf(task);
    ASSIGN_OR_RETURN(const uint16_t module, reader.Open(tensor.file, *tensor.from, stop));
    ASSIGN_OR_RETURN(ShardWriter* const file, files_->WriterOf(task.shard));
    const std::unique_ptr<TensorWriter> writer = file->Begin(task.tensor, module);
    std::vector<std::byte> cast;
    const absl::StatusOr<TensorFinding> found = reader.Read(
        [&](absl::Span<std::byte> bytes) -> absl::Status {
          Advance(bytes.size());
          if (!tensor.cast_to.has_value()) {
            return writer->Take(bytes);
          }
          const DType from = tensor.from->dtype;
          for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), kCastBytes))) {
            const absl::Span<const std::byte> step = bytes.subspan(0, kCastBytes);
            cast.resize(CastBytes(from, *tensor.cast_to, step.size()));
            Cast(from, *tensor.cast_to, step, absl::MakeSpan(cast));
            RETURN_IF_ERROR(writer->Take(absl::MakeSpan(cast)));
          }
          return absl::OkStatus();
        },
        stop);
    RETURN_IF_ERROR(found.status());
    const bool wanted = tensor.from->record.has_value() || input_.headers[tensor.file].encrypted();
    if (request_.verify == pipeline::VerifyPolicy::kFull && wanted && !found->any()) {
      return Error(
          Reason::kVerificationFailed,
          absl::StrCat(pipeline::TensorInFile(input_.model.files[tensor.file].name, *tensor.from),
                       " has no checksum, and every tensor is to be verified"),
          "leave --verify out, or set it to fast");
    }
    return writer->Finish();
  }

  const TensorToConvert& TensorOf(const Task& task) const {
    return shards_[task.shard].tensors[task.tensor];
  }

  void Advance(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    progress_.bytes_done += bytes;
    report_(progress_);
  }

  absl::Status WriteIndex(const std::string& draft) const {
    if (!is_folder() || request_.options.format != OutputFormat::kSafetensors) {
      return absl::OkStatus();
    }
    std::map<std::string, std::string> weight_map;
    uint64_t bytes = 0;
    for (const Shard& shard : shards_) {
      for (const TensorToConvert& tensor : shard.tensors) {
        weight_map[tensor.to.name] = shard.name;
        bytes += tensor.to.nbytes;
      }
    }
    const std::string text = format::ShardIndexText(weight_map, bytes);
    ASSIGN_OR_RETURN(
        const OutputFile index,
        OutputFile::Create(PathIn(draft, std::string(format::kShardIndexName)), text.size()));
    RETURN_IF_ERROR(index.Write(0, text));
    return index.Flush();
  }

  std::vector<ConvertedFile> Files() const {
    std::vector<ConvertedFile> files;
    files.reserve(shards_.size());
    for (size_t i = 0; i < shards_.size(); ++i) {
      files.push_back({PathIn(request_.output, shards_[i].name), files_->file_bytes(i),
                       shards_[i].tensors.size()});
    }
    return files;
  }

  const Input& input_;
  const ConvertRequest& request_;
  const Report report_;
  Cancellation& cancellation_;
  pipeline::TensorKeys keys_;
  std::optional<Sealing> sealing_;
  std::vector<Shard> shards_;
  // Goes after the files: they keep descriptors, which removing it needs.
  std::optional<Draft> draft_;
  std::optional<ShardFiles> files_;
  absl::Mutex mutex_;
  Progress progress_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::vector<ConvertedFile>> Convert(const source::Registry& sources,
                                                   const ConvertRequest& request, Report report,
                                                   Cancellation& cancellation) {
  if (request.encrypt.has_value() && request.options.format != OutputFormat::kTensorizer) {
    return Error(Reason::kUnsupported, "only tensorizer files can be encrypted",
                 "let the output end with .tensors");
  }
  ASSIGN_OR_RETURN(const Input input,
                   OpenInput(sources, request.input, request.key, request.unpinned, cancellation));
  return Conversion(input, request, report, cancellation).Run();
}

}  // namespace weightd::convert
