#include "daemon/convert/shard_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/format/safetensors_writer.h"
#include "daemon/format/secretbox.h"
#include "daemon/format/tensorizer_writer.h"
#include "daemon/source/checksum.h"

namespace weightd::convert {
namespace {

// As tensorizer's.
constexpr uint64_t kBoxBytes = 2 << 20;
// Hashed while it is in the processor's cache.
constexpr size_t kHashBytes = 256 << 10;

std::vector<format::TensorEntry> Targets(const Shard& shard) {
  std::vector<format::TensorEntry> targets;
  targets.reserve(shard.tensors.size());
  for (const TensorToConvert& tensor : shard.tensors) {
    targets.push_back(tensor.to);
  }
  return targets;
}

class PlainTensor : public TensorWriter {
 public:
  PlainTensor(const OutputFile* file, uint64_t offset) : file_(*file), at_(offset) {}

  absl::Status Take(absl::Span<std::byte> bytes) override {
    const uint64_t at = at_;
    at_ += bytes.size();
    return file_.Write(at, bytes);
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const OutputFile& file_;
  uint64_t at_;
};

class SafetensorsWriter : public ShardWriter {
 public:
  explicit SafetensorsWriter(format::SafetensorsPlan plan) : plan_(std::move(plan)) {}

  uint64_t file_bytes() const override { return plan_.file_bytes; }
  std::unique_ptr<TensorWriter> Begin(size_t tensor, uint16_t) override {
    return std::make_unique<PlainTensor>(&file(), plan_.places[tensor].begin);
  }
  absl::Status Finish() override {
    RETURN_IF_ERROR(file().Write(0, plan_.head));
    return file().Flush();
  }

 private:
  const format::SafetensorsPlan plan_;
};

// Hashes a tensor, encrypts it, and writes its record when it is whole.
class RecordTensor : public TensorWriter {
 public:
  RecordTensor(const format::TensorizerPlan* plan, size_t tensor, uint16_t module,
               const Sealing* sealing, const OutputFile* file)
      : plan_(*plan),
        tensor_(tensor),
        sealing_(sealing),
        file_(*file),
        at_(plan->tensors()[tensor].bytes.begin),
        sha256_(source::MakeHasher(source::ChecksumKind::kSha256)),
        crc32_(source::MakeHasher(source::ChecksumKind::kCrc32)) {
    findings_.module = module;
    const std::string header = plan_.HashedHeader(tensor_, module);
    Hash({reinterpret_cast<const std::byte*>(header.data()), header.size()});
    if (plan_.boxed(tensor_)) {
      findings_.password = sealing_->password;
      findings_.nonce = format::NewNonce();
      box_.reserve(std::min<uint64_t>(kBoxBytes, plan_.tensors()[tensor_].bytes.size()));
    }
  }

  absl::Status Take(absl::Span<std::byte> bytes) override {
    for (size_t done = 0; done < bytes.size(); done += kHashBytes) {
      Hash(bytes.subspan(done, kHashBytes));
    }
    if (!plan_.boxed(tensor_)) {
      return Append(bytes);
    }
    while (!bytes.empty()) {
      if (box_.empty() && bytes.size() >= kBoxBytes) {
        RETURN_IF_ERROR(Seal(bytes.subspan(0, kBoxBytes)));
        bytes.remove_prefix(kBoxBytes);
        continue;
      }
      const size_t more = std::min<size_t>(kBoxBytes - box_.size(), bytes.size());
      box_.insert(box_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(more));
      bytes.remove_prefix(more);
      if (box_.size() == kBoxBytes) {
        RETURN_IF_ERROR(SealRest());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    RETURN_IF_ERROR(SealRest());
    findings_.crc32 = crc32_->Finish();
    findings_.sha256 = sha256_->Finish();
    return file_.Write(plan_.tensors()[tensor_].record->header.begin,
                       plan_.Header(tensor_, findings_));
  }

 private:
  void Hash(absl::Span<const std::byte> bytes) {
    sha256_->Update(bytes);
    if (plan_.has_crc32(tensor_)) {
      crc32_->Update(bytes);
    }
  }

  absl::Status SealRest() {
    if (box_.empty()) {
      return absl::OkStatus();
    }
    const absl::Status sealed = Seal(absl::MakeSpan(box_));
    box_.clear();
    return sealed;
  }

  absl::Status Seal(absl::Span<std::byte> box) {
    findings_.macs += format::SealBox(sealing_->key, findings_.nonce, boxes_++, box);
    return Append(box);
  }

  absl::Status Append(absl::Span<const std::byte> bytes) {
    const uint64_t at = at_;
    at_ += bytes.size();
    return file_.Write(at, bytes);
  }

  const format::TensorizerPlan& plan_;
  const size_t tensor_;
  const Sealing* const sealing_;
  const OutputFile& file_;
  uint64_t at_;
  const std::unique_ptr<source::Hasher> sha256_;
  const std::unique_ptr<source::Hasher> crc32_;
  format::RecordFindings findings_;
  // Of a box that isn't whole.
  std::vector<std::byte> box_;
  uint64_t boxes_ = 0;
};

class TensorizerWriter : public ShardWriter {
 public:
  TensorizerWriter(format::TensorizerPlan plan, const Sealing* sealing)
      : plan_(std::move(plan)), sealing_(sealing) {}

  uint64_t file_bytes() const override { return plan_.file_bytes(); }
  std::unique_ptr<TensorWriter> Begin(size_t tensor, uint16_t module) override {
    return std::make_unique<RecordTensor>(&plan_, tensor, module, sealing_, &file());
  }
  // The terminator is zeros, which are there.
  absl::Status Finish() override {
    RETURN_IF_ERROR(file().Write(0, plan_.head()));
    return file().Flush();
  }

 private:
  const format::TensorizerPlan plan_;
  const Sealing* const sealing_;
};

}  // namespace

absl::Status ShardWriter::Open(std::string path) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(std::move(path), file_bytes()));
  file_.emplace(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ShardWriter>> MakeSafetensorsWriter(
    const Shard& shard, const std::map<std::string, std::string>& metadata) {
  ASSIGN_OR_RETURN(format::SafetensorsPlan plan, format::PlanSafetensors(Targets(shard), metadata));
  return std::make_unique<SafetensorsWriter>(std::move(plan));
}

absl::StatusOr<std::unique_ptr<ShardWriter>> MakeTensorizerWriter(const Shard& shard,
                                                                  const Sealing* sealing) {
  const format::TensorizerWriting writing = {
      .encrypted = sealing != nullptr,
      .password = sealing != nullptr && sealing->password.has_value(),
      .box_bytes = kBoxBytes};
  ASSIGN_OR_RETURN(format::TensorizerPlan plan,
                   format::TensorizerPlan::Make(Targets(shard), writing));
  return std::make_unique<TensorizerWriter>(std::move(plan), sealing);
}

}  // namespace weightd::convert
