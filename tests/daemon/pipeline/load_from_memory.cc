#include "tests/daemon/pipeline/load_from_memory.h"

#include <filesystem>
#include <iterator>
#include <utility>

#include "common/uri.h"

namespace weightd::pipeline {
namespace {

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator descriptors("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(descriptors), end(descriptors)));
}

}  // namespace

LoadFromMemory::LoadFromMemory(EncodeIndex encode_index, LoaderOptions options)
    : descriptors_(OpenDescriptors()) {
  registry_.Add("http", source_);
  SetBudget(256 << 20);
  options.chunk_bytes = 1 << 20;
  loader_ = MakeModelLoader(&registry_, std::move(encode_index), std::move(options));
}

void LoadFromMemory::SetBudget(uint64_t bytes) {
  host::HostTierOptions options;
  options.budget = bytes;
  options.available_memory = []() -> absl::StatusOr<uint64_t> { return uint64_t{1} << 50; };
  tier_ = std::make_shared<host::HostTier>(std::move(options));
}

absl::StatusOr<ResolvedModel> LoadFromMemory::Resolve(absl::string_view uri) {
  return loader_->Resolve(Uri::Parse(uri).value(), policy_, {}, cancellation_);
}

absl::StatusOr<ResidentModel> LoadFromMemory::Load(const ResolvedModel& resolved) {
  return loader_->Load(
      resolved, policy_, given_key_, [this](uint64_t bytes) { return tier_->Reserve(bytes); },
      destinations_, progress_, cancellation_);
}

absl::StatusOr<ResidentModel> LoadFromMemory::ResolveAndLoad(absl::string_view uri) {
  const absl::StatusOr<ResolvedModel> resolved = Resolve(uri);
  return resolved.ok() ? Load(*resolved) : resolved.status();
}

void LoadFromMemory::ExpectNothingHeld() {
  const host::HostUsage usage = tier_->usage();
  EXPECT_EQ(usage.loading + usage.resident + usage.draining, 0u);
  EXPECT_EQ(OpenDescriptors(), descriptors_);
}

}  // namespace weightd::pipeline
