#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "client/c/include/weightd.h"
#include "common/cuda_driver.h"
#include "common/cuda_memory.h"
#include "tests/fakes/fake_cuda/fake_cuda.h"
#include "tests/fakes/fake_daemon.h"

// Models in a GPU's memory through the C library, on the fake driver.

namespace weightd {
namespace {

constexpr uint64_t kGranule = 2 << 20;
constexpr char kLibrary[] = "tests/fakes/fake_cuda/libfake_cuda.so";

class DeviceTest : public testing::Test {
 protected:
  DeviceTest() {
    const std::string folder = testing::TempDir() + "/fake_cuda";
    std::filesystem::create_directories(folder);
    setenv("FAKE_CUDA_DIR", folder.c_str(), 1);
    setenv("FAKE_CUDA_DEVICES", "2x64MiB", 1);
    gpu_ = *CudaContext::Retain(*CudaDriver::Load(kLibrary), fake_cuda::GpuIdOf(1));
    fakes::FakeModel model = fakes::SmallModel();
    model.device_bytes = kGranule;
    model.index.set_device_bytes(model.bytes.size());
    for (auto& piece : *model.index.mutable_layout()->mutable_pieces()) {
      piece.set_device_offset(piece.offset());
    }
    model.export_from_device = [gpu = gpu_, bytes = model.bytes] {
      const auto memory = CudaMemory::Create(gpu, kGranule);
      const CudaContext::Current current(*gpu);
      EXPECT_EQ(gpu->driver().cuMemcpyHtoD(memory->pointer(), bytes.data(), bytes.size()),
                cuda::CUDA_SUCCESS);
      return *memory->Export();
    };
    model.small_files = "{}";
    fakes::AddSmallFile(model, "config.json", 0, 2);
    daemon_.Add("small", std::move(model));
  }

  std::shared_ptr<const CudaContext> gpu_;
  fakes::FakeDaemon daemon_;
};

TEST_F(DeviceTest, GivesTensorsOnTheGpuOfThatUuid) {
  const std::string uuid = fake_cuda::GpuIdOf(1).ToText();
  weightd_options options = WEIGHTD_OPTIONS_INIT;
  options.socket_dir = daemon_.socket_dir().c_str();
  options.cuda_driver = kLibrary;
  options.gpu_uuid = uuid.c_str();
  for (const weightd_place place : {WEIGHTD_GPU_SHARED, WEIGHTD_GPU_PRIVATE}) {
    options.place = place;
    weightd_model* model = nullptr;
    weightd_error* const error = weightd_attach("small", &options, &model);
    ASSERT_EQ(error, nullptr) << weightd_error_message(error);
    EXPECT_EQ(weightd_model_gpu(model), uuid);
    EXPECT_EQ(weightd_model_writable(model), place == WEIGHTD_GPU_PRIVATE ? 1 : 0);
    EXPECT_EQ(weightd_model_nbytes(model), kGranule);
    weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
    ASSERT_EQ(weightd_model_tensor(model, "b", &tensor), nullptr);
    float value = 0;
    {
      const CudaContext::Current current(*gpu_);
      EXPECT_EQ(gpu_->driver().cuMemcpyDtoH(
                    &value, reinterpret_cast<cuda::CUdeviceptr>(tensor.data), sizeof(value)),
                cuda::CUDA_SUCCESS);
    }
    EXPECT_EQ(value, 5);
    weightd_file file = WEIGHTD_FILE_INIT;
    ASSERT_EQ(weightd_model_file(model, "config.json", &file), nullptr);
    EXPECT_EQ(std::string(file.bytes, file.nbytes), "{}");
    weightd_model_release(model);
    EXPECT_TRUE(daemon_.AwaitLeases(0));
  }
}

}  // namespace
}  // namespace weightd
