#include "tests/daemon/pipeline/load_to_gpus.h"

#include <utility>

#include "absl/strings/string_view.h"
#include "daemon/pipeline/device_layout.h"

namespace weightd::pipeline {

LoadToGpus::LoadToGpus()
    : LoadFromMemory([](const ModelIndex&) { return std::string("index"); }, Options()) {
  destinations_.gpus = {one_};
  destinations_.make_room_on = [this](const GpuId& gpu, uint64_t bytes) {
    return gpus_.Reserve(gpu, bytes);
  };
}

LoadToGpus::TensorBytes LoadToGpus::BytesOf(const std::vector<fakes::TensorToWrite>& tensors) {
  TensorBytes bytes;
  for (const fakes::TensorToWrite& tensor : tensors) {
    bytes[tensor.name] = tensor.bytes;
  }
  return bytes;
}

LoadToGpus::TensorBytes LoadToGpus::BytesOf(const std::vector<fakes::TensorizerTensor>& tensors) {
  TensorBytes bytes;
  for (const fakes::TensorizerTensor& tensor : tensors) {
    bytes[tensor.name] = tensor.bytes;
  }
  return bytes;
}

LoaderOptions LoadToGpus::Options() {
  LoaderOptions options;
  options.chunk_bytes = 1 << 20;
  options.staging_bytes = kStagingBytes;
  options.gpus = &gpus_;
  return options;
}

void LoadToGpus::Remake(LoaderOptions options) {
  loader_ = MakeModelLoader(
      &registry_, [](const ModelIndex&) { return std::string("index"); }, std::move(options));
}

void LoadToGpus::ExpectOnGpus(const ResidentModel& model, const TensorBytes& tensors,
                              size_t count) {
  ASSERT_EQ(model.copies.size(), count);
  EXPECT_EQ(model.weights != nullptr, destinations_.host);
  ASSERT_EQ(model.index.pieces.size(), tensors.size());
  for (const auto& copy : model.copies) {
    const std::string memory = fakes::FakeGpus::Bytes(*copy);
    ASSERT_EQ(memory.size(), model.index.device_bytes);
    for (const Piece& piece : model.index.pieces) {
      EXPECT_EQ(piece.device_offset % kDeviceAlignment, 0u) << piece.name;
      // Not EXPECT_EQ, which would print megabytes.
      EXPECT_TRUE(absl::string_view(memory).substr(piece.device_offset, piece.nbytes) ==
                  tensors.at(piece.name))
          << piece.name;
    }
  }
  if (model.weights != nullptr) {
    EXPECT_FALSE(model.weights->HeldByOthers());
    for (const Piece& piece : model.index.pieces) {
      const auto bytes = model.weights->bytes().subspan(piece.offset, piece.nbytes);
      EXPECT_TRUE(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
                  tensors.at(piece.name))
          << piece.name;
    }
  }
  EXPECT_EQ(gpus_.uploads_alive(), 0u);
  EXPECT_EQ(tier_->usage().loading, 0u) << "a window is given back";
  EXPECT_EQ(tier_->usage().resident, model.charged_bytes());
}

void LoadToGpus::ExpectNothingLeft() {
  ExpectNothingHeld();
  EXPECT_EQ(gpus_.uploads_alive(), 0u);
  EXPECT_EQ(gpus_.segments_alive(), 0u);
  for (const device::GpuStatus& gpu : gpus_.List()) {
    EXPECT_EQ(gpu.usage.used(), 0u);
  }
}

}  // namespace weightd::pipeline
