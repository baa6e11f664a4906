#include "client/cli/doctor.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

NodeReadings GoodNode() {
  NodeReadings node;
  node.kernel_release = "6.1.0-18-amd64";
  node.memlock_limit = kUnlimited;
  node.open_files_limit = 65536;
  node.shmem_enabled = "always within_size [advise] never deny force";
  node.socket_dir = "/run/weightd";
  node.socket_dir_mode = 0700;
  node.socket_dir_usable = true;
  node.daemon_version = "1";
  node.memory_total = 64 * kGiB;
  node.memory_available = 32 * kGiB;
  return node;
}

Finding Check(const NodeReadings& node, const std::string& check) {
  for (Finding& finding : Diagnose(node)) {
    if (finding.check == check) {
      return finding;
    }
  }
  ADD_FAILURE() << "no check " << check;
  return {};
}

// That `check` has this state, and says what it costs and what to do unless all is well.
void ExpectState(const NodeReadings& node, const std::string& check, Finding::State state) {
  const Finding finding = Check(node, check);
  EXPECT_STREQ(StateName(finding.state), StateName(state)) << finding.finding;
  EXPECT_EQ(finding.cost.empty(), state == Finding::State::kOk) << check;
  EXPECT_EQ(finding.remedy.empty(), state == Finding::State::kOk) << check;
}

TEST(DoctorTest, GoodNodeIsWell) {
  for (const Finding& finding : Diagnose(GoodNode())) {
    EXPECT_EQ(finding.state, Finding::State::kOk) << finding.check << ": " << finding.finding;
  }
}

TEST(DoctorTest, KernelFloorIs514) {
  NodeReadings node = GoodNode();
  node.kernel_release = "5.14.0";
  ExpectState(node, "kernel", Finding::State::kOk);
  node.kernel_release = "5.13.19-x";
  ExpectState(node, "kernel", Finding::State::kFail);
  node.kernel_release = "4.18.0";
  ExpectState(node, "kernel", Finding::State::kFail);
  node.kernel_release = "strange";
  ExpectState(node, "kernel", Finding::State::kWarn);
}

TEST(DoctorTest, HugePages) {
  NodeReadings node = GoodNode();
  for (const char* word : {"[always] advise never", "always [within_size]", "deny [force]"}) {
    node.shmem_enabled = word;
    ExpectState(node, "huge_pages", Finding::State::kOk);
  }
  for (const char* word : {"always advise [never]", "advise [deny]", ""}) {
    node.shmem_enabled = word;
    ExpectState(node, "huge_pages", Finding::State::kWarn);
  }
}

TEST(DoctorTest, HugePagesOfModels) {
  NodeReadings node = GoodNode();
  node.resident_models = {{"m", 8 * kGiB, 0.5}};
  ExpectState(node, "model_huge_pages", Finding::State::kWarn);
  EXPECT_NE(Check(node, "model_huge_pages").cost.find("0.50 s"), std::string::npos);
  node.resident_models = {{"m", 8 * kGiB, 1.0}};
  ExpectState(node, "model_huge_pages", Finding::State::kOk);
  node.resident_models = {{"tiny", 4096, 0}};
  ExpectState(node, "model_huge_pages", Finding::State::kOk);
}

TEST(DoctorTest, LockedMemory) {
  NodeReadings node = GoodNode();
  node.memlock_limit = 8 << 20;
  ExpectState(node, "locked_memory", Finding::State::kWarn);
  node.may_lock_all = true;
  ExpectState(node, "locked_memory", Finding::State::kOk);
}

TEST(DoctorTest, OpenFiles) {
  NodeReadings node = GoodNode();
  node.open_files_limit = 1024;
  ExpectState(node, "open_files", Finding::State::kWarn);
}

TEST(DoctorTest, IoUring) {
  NodeReadings node = GoodNode();
  node.io_uring_error = EPERM;
  ExpectState(node, "io_uring", Finding::State::kWarn);
  node.io_uring_error = ENOSYS;
  ExpectState(node, "io_uring", Finding::State::kWarn);
}

TEST(DoctorTest, Overcommit) {
  NodeReadings node = GoodNode();
  node.overcommit_memory = 2;
  ExpectState(node, "overcommit", Finding::State::kWarn);
}

TEST(DoctorTest, MemoryLooksAtTheCgroupToo) {
  NodeReadings node = GoodNode();
  node.cgroup_limit = 8 * kGiB;
  node.cgroup_used = 1 * kGiB;
  ExpectState(node, "memory", Finding::State::kOk);
  node.cgroup_used = 7 * kGiB;
  ExpectState(node, "memory", Finding::State::kWarn);
  node.cgroup_used = 9 * kGiB;
  ExpectState(node, "memory", Finding::State::kWarn);
  node = GoodNode();
  node.memory_available = kGiB;
  ExpectState(node, "memory", Finding::State::kWarn);
}

TEST(DoctorTest, SocketFolder) {
  NodeReadings node = GoodNode();
  node.socket_dir_mode = 0777;
  ExpectState(node, "socket_folder", Finding::State::kWarn);
  node.socket_dir_mode = 0755;
  ExpectState(node, "socket_folder", Finding::State::kOk);
  node.socket_dir_usable = false;
  ExpectState(node, "socket_folder", Finding::State::kFail);
  node.socket_dir_mode.reset();
  ExpectState(node, "socket_folder", Finding::State::kFail);
}

TEST(DoctorTest, Daemon) {
  NodeReadings node = GoodNode();
  node.daemon_answer = Error(Reason::kSourceUnavailable, "gone", "start it");
  ExpectState(node, "daemon", Finding::State::kFail);
  EXPECT_EQ(Check(node, "daemon").remedy, "start it");
}

TEST(DoctorTest, CudaDriver) {
  NodeReadings node = GoodNode();
  // A node without GPUs needs none.
  ExpectState(node, "cuda_driver", Finding::State::kOk);
  node.cuda_answer = Error(Reason::kDeviceUnavailable, "can't load it", "install it");
  ExpectState(node, "cuda_driver", Finding::State::kOk);
  node.nvidia_gpus = 1;
  ExpectState(node, "cuda_driver", Finding::State::kWarn);
  EXPECT_NE(Check(node, "cuda_driver").remedy.find("install it; in a container"),
            std::string::npos);
  node.nvidia_gpus = 0;
  node.cuda_driver_named = true;
  ExpectState(node, "cuda_driver", Finding::State::kWarn);
  node.cuda_driver_named = false;
  node.cuda_library = NodeReadings::CudaLibrary::kUnusable;
  node.cuda_answer = Error(Reason::kDeviceUnavailable, "too old", "install a newer one");
  ExpectState(node, "cuda_driver", Finding::State::kWarn);
  EXPECT_EQ(Check(node, "cuda_driver").remedy, "install a newer one");
  node.cuda_library = NodeReadings::CudaLibrary::kUsable;
  node.cuda_version = 12040;
  node.cuda_path = "libcuda.so.1";
  ExpectState(node, "cuda_driver", Finding::State::kOk);
  EXPECT_EQ(Check(node, "cuda_driver").finding, "CUDA 12.4 (libcuda.so.1)");
}

TEST(DoctorTest, GpusOfTheDaemon) {
  NodeReadings node = GoodNode();
  v1::GpuStatus gpu;
  gpu.set_index(3);
  gpu.set_state(v1::GpuStatus::RUNNING);
  node.gpus = {gpu};
  ExpectState(node, "gpu", Finding::State::kOk);
  node.gpus[0].set_state(v1::GpuStatus::FAILED);
  node.gpus[0].set_last_error("Xid 79");
  ExpectState(node, "gpu", Finding::State::kWarn);
  EXPECT_NE(Check(node, "gpu").finding.find("Xid 79"), std::string::npos);
  node.gpus[0].set_state(v1::GpuStatus::DRAINED);
  ExpectState(node, "gpu", Finding::State::kWarn);
  EXPECT_EQ(Check(node, "gpu").remedy, "weightctl resume --gpu 3");
}

TEST(DoctorTest, GpusThatTheDaemonDoesNotFind) {
  NodeReadings node = GoodNode();
  node.nvidia_gpus = 2;
  node.cuda_library = NodeReadings::CudaLibrary::kUsable;
  ExpectState(node, "gpu", Finding::State::kWarn);
  EXPECT_NE(Check(node, "gpu").finding.find("none of the 2 GPUs"), std::string::npos);
}

TEST(NodeReadingsTest, ReadsTheCudaDriver) {
  NodeReadings node = ReadNode("/nonexistent/weightd", "/nonexistent/libcuda.so.1");
  EXPECT_EQ(node.cuda_library, NodeReadings::CudaLibrary::kMissing);
  EXPECT_TRUE(node.cuda_driver_named);
  EXPECT_EQ(ReasonOf(node.cuda_answer), Reason::kDeviceUnavailable);
  // A library, but no CUDA driver.
  node = ReadNode("/nonexistent/weightd", "libm.so.6");
  EXPECT_EQ(node.cuda_library, NodeReadings::CudaLibrary::kUnusable);
  EXPECT_FALSE(HintOf(node.cuda_answer).empty());
}

TEST(NodeReadingsTest, TellsAnOldCudaDriverFromAGoodOne) {
  const std::string fake = "tests/fakes/fake_cuda/libfake_cuda.so";
  ASSERT_EQ(setenv("FAKE_CUDA_VERSION", "11010", 1), 0);
  NodeReadings node = ReadNode("/nonexistent/weightd", fake);
  EXPECT_EQ(node.cuda_library, NodeReadings::CudaLibrary::kUnusable);
  ExpectState(node, "cuda_driver", Finding::State::kWarn);
  EXPECT_NE(Check(node, "cuda_driver").finding.find("too old"), std::string::npos);
  ASSERT_EQ(setenv("FAKE_CUDA_VERSION", "12040", 1), 0);
  node = ReadNode("/nonexistent/weightd", fake);
  EXPECT_EQ(node.cuda_library, NodeReadings::CudaLibrary::kUsable);
  EXPECT_EQ(node.cuda_version, 12040);
  ExpectState(node, "cuda_driver", Finding::State::kOk);
}

TEST(NodeReadingsTest, ReadsThisNode) {
  const NodeReadings node = ReadNode("/nonexistent/weightd");
  EXPECT_FALSE(node.kernel_release.empty());
  EXPECT_GT(node.memory_total, node.memory_available);
  EXPECT_GT(node.memory_available, 0u);
  EXPECT_GT(node.open_files_limit, 0u);
  EXPECT_FALSE(node.socket_dir_mode.has_value());
  EXPECT_FALSE(node.daemon_answer.ok());
  EXPECT_FALSE(node.limits_are_the_daemons);
}

}  // namespace
}  // namespace weightd::cli
