#ifndef WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_FROM_MEMORY_H_
#define WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_FROM_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/registry.h"
#include "daemon/source/source.h"
#include "gtest/gtest.h"
#include "tests/fakes/memory_source.h"

namespace weightd::pipeline {

// Loads from a source in memory, in chunks of 1 MiB.
class LoadFromMemory : public testing::Test {
 protected:
  static constexpr char kModel[] = "http://host/m/model.safetensors";

  explicit LoadFromMemory(EncodeIndex encode_index, LoaderOptions options = {});

  void SetBudget(uint64_t bytes);
  absl::StatusOr<ResolvedModel> Resolve(absl::string_view uri = kModel);
  absl::StatusOr<ResidentModel> Load(const ResolvedModel& resolved);
  absl::StatusOr<ResidentModel> ResolveAndLoad(absl::string_view uri = kModel);
  // A load that failed has left nothing behind.
  void ExpectNothingHeld();

  const std::shared_ptr<fakes::MemorySource> source_ = std::make_shared<fakes::MemorySource>();
  source::Registry registry_;
  std::shared_ptr<host::HostTier> tier_;
  source::ReadPolicy policy_;
  Destinations destinations_;
  // For each load.
  std::optional<ModelKey> given_key_;
  Progress progress_;
  Cancellation cancellation_;
  std::unique_ptr<ModelLoader> loader_;

 private:
  const size_t descriptors_;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_FROM_MEMORY_H_
