#include "client/c/include/weightd.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/fakes/fake_daemon.h"

// The C library on a daemon that does as told: what it gives, and what it makes of bad arguments.

namespace weightd {
namespace {

using fakes::FakeDaemon;
using fakes::FakeModel;

// The reason of an error, which it frees; "" if there is none.
std::string Take(weightd_error* error) {
  std::string reason = weightd_error_reason(error);
  EXPECT_EQ(reason.empty(), error == nullptr);
  EXPECT_EQ(reason.empty(), std::string(weightd_error_message(error)).empty());
  weightd_error_free(error);
  return reason;
}

class WeightdTest : public testing::Test {
 protected:
  WeightdTest() {
    FakeModel model = fakes::SmallModel();
    (*model.index.mutable_metadata())["tied"] = "a";
    daemon_.Add("small", std::move(model));
    options_.socket_dir = daemon_.socket_dir().c_str();
  }
  ~WeightdTest() override {
    weightd_model_release(model_);
    EXPECT_TRUE(daemon_.AwaitSessions(0));
  }

  std::string Attach(const char* name = "small") {
    return Take(weightd_attach(name, &options_, &model_));
  }

  FakeDaemon daemon_;
  weightd_options options_ = WEIGHTD_OPTIONS_INIT;
  weightd_model* model_ = nullptr;
};

TEST_F(WeightdTest, GivesAModelAndItsTensors) {
  ASSERT_EQ(Attach(), "");
  EXPECT_STREQ(weightd_model_uri(model_), "small");
  EXPECT_EQ(std::string(weightd_model_revision(model_)), std::string(64, 'a'));
  EXPECT_EQ(weightd_model_gpu(model_), nullptr);
  EXPECT_EQ(weightd_model_writable(model_), 1);
  size_t count = 0;
  ASSERT_EQ(Take(weightd_model_tensor_count(model_, &count)), "");
  ASSERT_EQ(count, 3u);
  weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
  ASSERT_EQ(Take(weightd_model_tensor_at(model_, 0, &tensor)), "");
  EXPECT_STREQ(tensor.name, "a");
  EXPECT_STREQ(tensor.dtype, "F32");
  EXPECT_EQ(tensor.alias_of, nullptr);
  EXPECT_EQ(tensor.torch_type, nullptr);
  EXPECT_EQ(tensor.strides, nullptr);
  ASSERT_EQ(tensor.rank, 2u);
  EXPECT_EQ(tensor.shape[0] * tensor.shape[1], 4u);
  EXPECT_EQ(tensor.nbytes, 16u);
  EXPECT_EQ(static_cast<const float*>(tensor.data)[3], 4);
  const auto* const begin = static_cast<const char*>(weightd_model_data(model_));
  EXPECT_GE(static_cast<const char*>(tensor.data), begin);
  EXPECT_LE(static_cast<const char*>(tensor.data) + tensor.nbytes,
            begin + weightd_model_nbytes(model_));
  static_cast<float*>(tensor.data)[3] = 9;  // a page of our own
  EXPECT_EQ(daemon_.leases(), 1u);
  weightd_model_release(std::exchange(model_, nullptr));
  EXPECT_TRUE(daemon_.AwaitLeases(0));
}

TEST_F(WeightdTest, FindsTensorsByEachOfTheirNames) {
  ASSERT_EQ(Attach(), "");
  weightd_tensor stored = WEIGHTD_TENSOR_INIT;
  weightd_tensor tied = WEIGHTD_TENSOR_INIT;
  ASSERT_EQ(Take(weightd_model_tensor(model_, "a", &stored)), "");
  ASSERT_EQ(Take(weightd_model_tensor(model_, "tied", &tied)), "");
  EXPECT_STREQ(tied.name, "tied");
  EXPECT_STREQ(tied.alias_of, "a");
  EXPECT_EQ(tied.data, stored.data);
  weightd_error* const error = weightd_model_tensor(model_, "c", &tied);
  EXPECT_STREQ(weightd_error_model(error), "small");
  EXPECT_NE(std::string(weightd_error_hint(error)), "");
  EXPECT_EQ(Take(error), "TENSOR_NOT_FOUND");
  EXPECT_STREQ(tied.name, "tied");
}

TEST_F(WeightdTest, GivesMetadataInOrder) {
  ASSERT_EQ(Attach(), "");
  size_t count = 0;
  ASSERT_EQ(Take(weightd_model_metadata_count(model_, &count)), "");
  ASSERT_EQ(count, 2u);
  const char* key = nullptr;
  const char* value = nullptr;
  ASSERT_EQ(Take(weightd_model_metadata_at(model_, 0, &key, &value)), "");
  EXPECT_STREQ(key, "format");
  EXPECT_STREQ(value, "pt");
  EXPECT_EQ(Take(weightd_model_metadata_at(model_, 2, &key, &value)), "INVALID_ARGUMENT");
}

FakeModel ModelWithFiles() {
  FakeModel folder = fakes::SmallModel();
  folder.small_files = "{}abcd";
  fakes::AddSmallFile(folder, "vocab.txt", 2, 4);
  fakes::AddSmallFile(folder, "1_Pooling/config.json", 0, 2);
  fakes::AddSmallFile(folder, "empty.txt", 6, 0);
  fakes::AddSmallFile(folder, "tokenizer.json", 0, 0);
  folder.index.mutable_small_files()->rbegin()->set_left_out("it is too large");
  return folder;
}

std::string BytesOf(const weightd_file& file) { return {file.bytes, file.nbytes}; }

TEST_F(WeightdTest, GivesWhatLiesBesideTheWeights) {
  daemon_.Add("folder", ModelWithFiles());
  ASSERT_EQ(Attach("folder"), "");
  size_t count = 0;
  ASSERT_EQ(Take(weightd_model_file_count(model_, &count)), "");
  std::vector<std::pair<std::string, std::string>> found;
  weightd_file file = WEIGHTD_FILE_INIT;
  for (size_t i = 0; i < count; ++i) {
    ASSERT_EQ(Take(weightd_model_file_at(model_, i, &file)), "");
    found.emplace_back(file.name, BytesOf(file));
  }
  EXPECT_EQ(found, (std::vector<std::pair<std::string, std::string>>{
                       {"1_Pooling/config.json", "{}"}, {"empty.txt", ""}, {"vocab.txt", "abcd"}}));
  EXPECT_EQ(Take(weightd_model_file_at(model_, count, &file)), "INVALID_ARGUMENT");
  ASSERT_EQ(Take(weightd_model_file(model_, "vocab.txt", &file)), "");
  EXPECT_STREQ(file.name, "vocab.txt");
  EXPECT_EQ(BytesOf(file), "abcd");
  EXPECT_EQ(Take(weightd_model_file(model_, "none.json", &file)), "FILE_NOT_FOUND");
  weightd_error* const error = weightd_model_file(model_, "tokenizer.json", &file);
  EXPECT_NE(std::string(weightd_error_message(error)).find("it is too large"), std::string::npos);
  EXPECT_EQ(Take(error), "FILE_NOT_FOUND");
  EXPECT_STREQ(file.name, "vocab.txt");
}

TEST_F(WeightdTest, AModelThatIsAFileHasNoneBesideIt) {
  ASSERT_EQ(Attach(), "");
  size_t count = 7;
  ASSERT_EQ(Take(weightd_model_file_count(model_, &count)), "");
  EXPECT_EQ(count, 0u);
}

TEST_F(WeightdTest, FilesThatAreNotWhereTheIndexSaysLeaveTheTensors) {
  FakeModel liar = ModelWithFiles();
  liar.index.mutable_small_files(0)->set_offset(1 << 20);
  daemon_.Add("liar", std::move(liar));
  ASSERT_EQ(Attach("liar"), "");
  size_t count = 0;
  weightd_file file = WEIGHTD_FILE_INIT;
  EXPECT_EQ(Take(weightd_model_file_count(model_, &count)), "MALFORMED_MODEL");
  EXPECT_EQ(Take(weightd_model_file_at(model_, 0, &file)), "MALFORMED_MODEL");
  EXPECT_EQ(Take(weightd_model_file(model_, "vocab.txt", &file)), "MALFORMED_MODEL");
  EXPECT_EQ(Take(weightd_model_tensor_count(model_, &count)), "");
}

TEST_F(WeightdTest, BadArgumentsAreErrors) {
  EXPECT_EQ(Take(weightd_attach(nullptr, &options_, &model_)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_attach("small", &options_, nullptr)), "INVALID_ARGUMENT");
  EXPECT_EQ(model_, nullptr);
  size_t count = 7;
  weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
  EXPECT_EQ(Take(weightd_model_tensor_count(nullptr, &count)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_tensor(nullptr, "a", &tensor)), "INVALID_ARGUMENT");
  EXPECT_EQ(count, 7u);
  weightd_model_release(nullptr);
  weightd_error_free(nullptr);
  EXPECT_STREQ(weightd_model_uri(nullptr), "");
  EXPECT_EQ(weightd_model_data(nullptr), nullptr);
  EXPECT_EQ(weightd_model_nbytes(nullptr), 0u);
  ASSERT_EQ(Attach(), "");
  EXPECT_EQ(Take(weightd_model_tensor_count(model_, nullptr)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_tensor(model_, nullptr, &tensor)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_tensor(model_, "a", nullptr)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_tensor_at(model_, 3, &tensor)), "INVALID_ARGUMENT");
  tensor.size = 0;
  EXPECT_EQ(Take(weightd_model_tensor_at(model_, 0, &tensor)), "INVALID_ARGUMENT");
  weightd_model_release(std::exchange(model_, nullptr));
  daemon_.Add("folder", ModelWithFiles());
  ASSERT_EQ(Attach("folder"), "");
  weightd_file file = WEIGHTD_FILE_INIT;
  EXPECT_EQ(Take(weightd_model_file_count(nullptr, &count)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_file_count(model_, nullptr)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_file(model_, nullptr, &file)), "INVALID_ARGUMENT");
  EXPECT_EQ(Take(weightd_model_file_at(model_, 0, nullptr)), "INVALID_ARGUMENT");
  file.size = 0;
  EXPECT_EQ(Take(weightd_model_file_at(model_, 0, &file)), "INVALID_ARGUMENT");
}

TEST_F(WeightdTest, BadOptionsAreErrors) {
  const auto with = [this](auto change) {
    const weightd_options before = options_;
    change(options_);
    const std::string reason = Attach();
    options_ = before;
    return reason;
  };
  EXPECT_EQ(with([](auto& o) { o.size = 0; }), "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) { o.size = ~size_t{0}; }), "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) { o.timeout_milliseconds = -1; }), "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) { o.pin_count = 1; }), "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) { o.place = 3; }), "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) {
              o.place = WEIGHTD_GPU_SHARED;
              o.gpu_uuid = "first";
            }),
            "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) {
              o.place = WEIGHTD_GPU_SHARED;
              o.cuda_driver = "no-such-driver.so";
            }),
            "DEVICE_NOT_VISIBLE");
  const weightd_pin half[] = {{"model.safetensors", nullptr}};
  EXPECT_EQ(with([&](auto& o) {
              o.pins = half;
              o.pin_count = 1;
            }),
            "INVALID_ARGUMENT");
  const std::string digest(64, '0');
  const weightd_pin twice[] = {{"", digest.c_str()}, {"", digest.c_str()}};
  EXPECT_EQ(with([&](auto& o) {
              o.pins = twice;
              o.pin_count = 2;
            }),
            "INVALID_ARGUMENT");
  EXPECT_EQ(with([](auto& o) { o.socket_dir = "/no/such/folder"; }), "DAEMON_UNREACHABLE");
}

TEST_F(WeightdTest, StructsOfOtherHeadersWork) {
  struct Later {
    weightd_options known = WEIGHTD_OPTIONS_INIT;
    void* added = nullptr;
  } later;
  later.known.size = sizeof(later);
  later.known.socket_dir = options_.socket_dir;
  ASSERT_EQ(Take(weightd_attach("small", &later.known, &model_)), "");
  weightd_model* other = nullptr;
  later.added = &later;
  EXPECT_EQ(Take(weightd_attach("small", &later.known, &other)), "UNSUPPORTED");
  // An earlier one, which ended after the socket folder: what follows is not its to say.
  weightd_options earlier = options_;
  earlier.size = offsetof(weightd_options, revision);
  earlier.place = 99;
  ASSERT_EQ(Take(weightd_attach("small", &earlier, &other)), "");
  weightd_model_release(other);
  weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
  tensor.size = offsetof(weightd_tensor, torch_type);
  tensor.nbytes = 77;
  ASSERT_EQ(Take(weightd_model_tensor(model_, "a", &tensor)), "");
  EXPECT_STREQ(tensor.dtype, "F32");
  EXPECT_EQ(tensor.nbytes, 77u);
  EXPECT_EQ(tensor.size, offsetof(weightd_tensor, torch_type));
}

TEST_F(WeightdTest, TellsProgress) {
  v1::LoadProgress progress;
  progress.set_phase(v1::TRANSFERRING);
  progress.set_bytes_done(3);
  progress.set_bytes_total(20);
  daemon_.Set({.progress = {progress}});
  std::vector<std::string> told;
  options_.progress = [](const char* phase, uint64_t done, uint64_t total, void* context) {
    static_cast<std::vector<std::string>*>(context)->push_back(
        std::string(phase) + " " + std::to_string(done) + "/" + std::to_string(total));
  };
  options_.progress_context = &told;
  ASSERT_EQ(Attach(), "");
  EXPECT_EQ(told, std::vector<std::string>{"TRANSFERRING 3/20"});
}

TEST_F(WeightdTest, ErrorsOfTheDaemonArrive) {
  weightd_error* const error = weightd_attach("absent", &options_, &model_);
  ASSERT_NE(error, nullptr);
  EXPECT_STREQ(weightd_error_model(error), "absent");
  EXPECT_EQ(Take(error), "MODEL_NOT_FOUND");
  EXPECT_EQ(model_, nullptr);
}

TEST_F(WeightdTest, ABrokenIndexIsAnErrorEachTime) {
  FakeModel broken = fakes::SmallModel();
  broken.index.mutable_layout()->mutable_pieces(0)->set_offset(1 << 30);
  daemon_.Add("broken", std::move(broken));
  ASSERT_EQ(Attach("broken"), "");
  size_t count = 0;
  EXPECT_EQ(Take(weightd_model_tensor_count(model_, &count)), "MALFORMED_MODEL");
  EXPECT_EQ(Take(weightd_model_metadata_count(model_, &count)), "MALFORMED_MODEL");
}

TEST_F(WeightdTest, ADaemonThatStallsMeetsTheDeadline) {
  daemon_.Set({.stalls_acquires = true});
  options_.timeout_milliseconds = 200;
  EXPECT_EQ(Attach(), "DEADLINE");
}

TEST_F(WeightdTest, ReadOnlyIsReadOnly) {
  options_.read_only = 1;
  ASSERT_EQ(Attach(), "");
  EXPECT_EQ(weightd_model_writable(model_), 0);
}

TEST_F(WeightdTest, ThreadsShareAModel) {
  ASSERT_EQ(Attach(), "");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this] {
      weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
      EXPECT_EQ(Take(weightd_model_tensor(model_, "b", &tensor)), "");
      EXPECT_EQ(*static_cast<const float*>(tensor.data), 5);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace weightd
