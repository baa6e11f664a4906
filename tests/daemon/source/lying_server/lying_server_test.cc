// Models loaded from servers that lie: right bytes or a typed error, in time, whatever they say.
// LYING_SERVER_SEEDS says how many loads there are for each kind of lie.

#include "tests/daemon/source/lying_server/lying_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/http/http_source.h"
#include "daemon/source/registry.h"
#include "daemon/source/s3/s3_source.h"
#include "tests/daemon/source/lying_server/lies.h"
#include "tests/fakes/fixed_credentials.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::source {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);
constexpr size_t kLoadsAtOnce = 100;

// Of a key that nobody has.
constexpr char kAuthority[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBeTCCAR+gAwIBAgIUK67fkvElONA7NoAYELwRQH8KU7wwCgYIKoZIzj0EAwIw\n"
    "ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMTEyNDUxM1oYDzIxMjYxMDI4MTI0\n"
    "NTEzWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n"
    "AAQ0zdqmojB6p+RpMfD5KJU9AN/BUzJEDXcwxjRF+p00CkQ0+7Kg20zBUdK4a+xU\n"
    "rwUdaszgsDIWXnvzYNFD/J6Yo1MwUTAdBgNVHQ4EFgQUhyrA56fRsMo/q/+XxF2S\n"
    "fjcsm54wHwYDVR0jBBgwFoAUhyrA56fRsMo/q/+XxF2Sfjcsm54wDwYDVR0TAQH/\n"
    "BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEA69kkbQ722HBNJCFnTT0lQqWGqH1P\n"
    "sXgBWBoMYAFQTbACICqjPBjzj2jkvpHjFDgzNMJLf0FfJaJPa8tSt0WCgytc\n"
    "-----END CERTIFICATE-----\n";

int Seeds() {
  const char* const text = std::getenv("LYING_SERVER_SEEDS");
  int seeds = 0;
  return text != nullptr && absl::SimpleAtoi(text, &seeds) ? seeds : 200;
}

// Cancels with kDeadline, which no load may end with, unless it dies before.
class Deadline {
 public:
  explicit Deadline(Cancellation& cancellation)
      : thread_([this, &cancellation] {
          if (!done_.WaitForNotificationWithTimeout(kDeadline)) {
            cancellation.Cancel(Error(Reason::kDeadline, "hangs"));
          }
        }) {}
  ~Deadline() {
    done_.Notify();
    thread_.join();
  }
  Deadline(const Deadline&) = delete;

 private:
  absl::Notification done_;
  std::thread thread_;
};

// The file of the one authority that is trusted: reading all of the system's takes longer than the
// rest of a load.
std::string AuthorityFile() {
  static const std::string path = [] {
    std::string file = absl::StrCat(testing::TempDir(), "/authority.pem");
    std::ofstream(file) << kAuthority;
    return file;
  }();
  return path;
}

// A model of a seed, in two versions: a file, a file that only a listing names, or two shards.
class SmallModel {
 public:
  SmallModel(const Lie& lie, Dice& dice) {
    const bool listed = lie.about == Lie::About::kListing;
    if (listed || dice.Chance(60)) {
      AddFile(listed ? "listed.safetensors" : "model.safetensors", "t", dice);
      name_ = listed ? "m/" : "m/model.safetensors";
      return;
    }
    std::map<std::string, std::string> shards;
    for (const std::string shard : {"a", "b"}) {
      const std::string file = absl::StrCat(shard, ".safetensors");
      for (size_t i = AddFile(file, shard, dice); i-- > 0;) {
        shards[absl::StrCat(shard, i)] = file;
      }
    }
    name_ = "m/";
    files_["model.safetensors.index.json"] = newer_["model.safetensors.index.json"] =
        fakes::ShardIndexFile(shards);
  }

  const std::string& name() const { return name_; }
  const Files& files() const { return files_; }
  const Files& newer() const { return newer_; }

  // Whether each file's tensors are those of one of its versions.
  bool Holds(const pipeline::ResidentModel& model) const {
    size_t pieces = 0;
    for (uint32_t file = 0; file < model.index.files.size(); ++file) {
      const std::string& name = model.index.files[file].name;
      pieces += tensors_.at(name).size();
      if (!Same(model, file, tensors_.at(name)) && !Same(model, file, newer_tensors_.at(name))) {
        return false;
      }
    }
    return pieces == model.index.pieces.size();
  }

 private:
  using Tensors = std::vector<fakes::TensorToWrite>;

  // Tensors t0, t1, …; how many.
  size_t AddFile(const std::string& file, const std::string& prefix, Dice& dice) {
    static const std::string noise = Dice(1).Garbage(1 << 20);
    const size_t count = 1 + dice.Below(4);
    const bool large = dice.Chance(50);
    for (size_t i = 0; i < count; ++i) {
      const size_t bytes = 1 + dice.Below(large ? 400'000 : 20'000);
      for (Tensors* const tensors : {&tensors_[file], &newer_tensors_[file]}) {
        tensors->push_back({.name = absl::StrCat(prefix, i),
                            .shape = {bytes},
                            .bytes = noise.substr(dice.Below(noise.size() - bytes), bytes)});
      }
    }
    files_[file] = fakes::SafetensorsFile(tensors_[file]);
    newer_[file] = fakes::SafetensorsFile(newer_tensors_[file]);
    return count;
  }

  static bool Same(const pipeline::ResidentModel& model, uint32_t file, const Tensors& tensors) {
    const auto* const begin = reinterpret_cast<const char*>(model.weights->bytes().data());
    return std::all_of(
        model.index.pieces.begin(), model.index.pieces.end(), [&](const pipeline::Piece& piece) {
          return piece.file != file ||
                 std::any_of(tensors.begin(), tensors.end(), [&](const auto& tensor) {
                   return tensor.name == piece.name &&
                          absl::string_view(begin + piece.offset, piece.nbytes) == tensor.bytes;
                 });
        });
  }

  std::string name_;
  Files files_;
  Files newer_;
  std::map<std::string, Tensors> tensors_;
  std::map<std::string, Tensors> newer_tensors_;
};

// One load of one model from one server.
class Load {
 public:
  Load(const Lie& lie, uint64_t seed)
      : lie_(lie),
        dice_(seed),
        model_(lie, dice_),
        server_(lie, seed, model_.files(), model_.newer()) {}

  void Run() {
    registry_.Add("http", *MakeHttpSource(HttpOptions()));
    registry_.Add("https", *MakeHttpSource(HttpOptions()));
    S3SourceOptions s3;
    s3.elsewhere.region = "us-east-1";
    s3.http = HttpOptions();
    S3StoreOptions store;
    store.location.endpoint = absl::StrCat("http://127.0.0.1:", server_.port());
    store.location.region = "us-east-1";
    store.buckets = {"bucket"};
    store.credentials = std::make_shared<fakes::FixedCredentials>("hush", "hush");
    s3.stores.push_back(std::move(store));
    registry_.Add("s3", *MakeS3Source(std::move(s3)));
    const auto loader = pipeline::MakeModelLoader(
        &registry_, [](const pipeline::ModelIndex&) { return std::string("index"); },
        {.chunk_bytes = dice_.OneOf<uint64_t>({16 << 10, 64 << 10, 300 << 10, 1 << 20})});
    Cancellation cancellation;
    const Deadline deadline(cancellation);
    const absl::StatusOr<pipeline::ResidentModel> loaded = Resident(*loader, cancellation);
    status_ = loaded.status();
    right_ = !loaded.ok() || model_.Holds(*loaded);
  }

  // What is wrong with how it ended; empty if nothing is.
  std::string Fault() const {
    const std::string text = absl::StrCat(status_.ToString(), HintOf(status_));
    if (!right_) {
      return "wrong bytes";
    }
    if (server_.leaked()) {
      return "credentials went elsewhere";
    }
    if (absl::StrContains(text, "inner words") || absl::StrContains(text, "hush")) {
      return absl::StrCat("tells what it must not: ", text);
    }
    if (status_.ok()) {
      return lie_.never_right && server_.lies() > 0 ? "right, of all things" : "";
    }
    const Reason reason = ReasonOf(status_);
    const bool lied = server_.lies() > 0 && std::find(lie_.reasons.begin(), lie_.reasons.end(),
                                                      reason) != lie_.reasons.end();
    // Who waits so shortly takes a busy machine for a stalled server.
    const bool stalled = lie_.stalls && reason == Reason::kSourceUnavailable;
    return (lied || stalled) && !HintOf(status_).empty() ? "" : text;
  }

  const absl::Status& status() const { return status_; }
  size_t lies() const { return server_.lies(); }

 private:
  HttpSourceOptions HttpOptions() {
    HttpSourceOptions options;
    options.connections = 1 + static_cast<int>(dice_.Below(4));
    options.chunk_bytes = 32 << 20;
    options.stall_timeout = lie_.stalls ? absl::Milliseconds(200) : absl::Seconds(10);
    options.attempts = 2;
    options.ca_file = AuthorityFile();
    return options;
  }

  std::string Address() {
    if (lie_.greet != nullptr) {
      return absl::StrCat("https://127.0.0.1:", server_.port(), "/");
    }
    if (lie_.about != Lie::About::kObjects || dice_.Chance(40)) {
      return "s3://bucket/";
    }
    return absl::StrCat("http://", dice_.Chance(30) ? "user:hush@" : "",
                        "127.0.0.1:", server_.port(), "/");
  }

  absl::StatusOr<pipeline::ResidentModel> Resident(pipeline::ModelLoader& loader,
                                                   Cancellation& cancellation) {
    const ReadPolicy policy = {.any_address = true};
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(absl::StrCat(Address(), model_.name())));
    ASSIGN_OR_RETURN(const pipeline::ResolvedModel resolved,
                     loader.Resolve(uri, policy, {}, cancellation));
    pipeline::Progress progress;
    return loader.Load(
        resolved, policy, /*key=*/std::nullopt,
        [this](uint64_t bytes) { return tier_->Reserve(bytes); }, /*destinations=*/{}, progress,
        cancellation);
  }

  const Lie& lie_;
  Dice dice_;
  const SmallModel model_;
  LyingServer server_;
  Registry registry_;
  const std::shared_ptr<host::HostTier> tier_ = std::make_shared<host::HostTier>(
      host::HostTierOptions{.budget = 64 << 20, .huge_pages = false});
  absl::Status status_;
  bool right_ = false;
};

// What became of the loads of one kind of lie.
class Tally {
 public:
  void Count(uint64_t seed, const Load& load) {
    const std::string fault = load.Fault();
    absl::MutexLock lock(&mutex_);
    ++ends_[load.status().ok()
                ? "right"
                : absl::StrCat("reason ", static_cast<int>(ReasonOf(load.status())))];
    lied_to_ += load.lies() > 0 ? 1 : 0;
    if (!fault.empty()) {
      faults_.push_back(absl::StrCat("seed ", seed, ": ", fault));
    }
  }

  size_t lied_to() const {
    absl::MutexLock lock(&mutex_);
    return lied_to_;
  }
  std::vector<std::string> faults() const {
    absl::MutexLock lock(&mutex_);
    return faults_;
  }
  std::string ends() const {
    absl::MutexLock lock(&mutex_);
    return absl::StrJoin(ends_, ", ", absl::PairFormatter(": "));
  }

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, int> ends_ ABSL_GUARDED_BY(mutex_);
  size_t lied_to_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> faults_ ABSL_GUARDED_BY(mutex_);
};

class LyingServerTest : public testing::TestWithParam<Lie> {};

TEST_P(LyingServerTest, ALoadIsRightOrFailsForAReason) {
  const size_t seeds = static_cast<size_t>(Seeds());
  const absl::Time begin = absl::Now();
  Tally tally;
  std::atomic<uint64_t> next = 1;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(seeds, kLoadsAtOnce); ++i) {
    threads.emplace_back([&] {
      for (uint64_t seed = next++; seed <= seeds; seed = next++) {
        Load load(GetParam(), seed);
        load.Run();
        tally.Count(seed, load);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(tally.faults(), testing::IsEmpty());
  EXPECT_GT(tally.lied_to(), seeds / 2);
  std::cout << GetParam().name << ": " << seeds << " loads, " << tally.lied_to() << " lied to; "
            << tally.ends() << "; " << absl::FormatDuration(absl::Now() - begin) << "\n";
}

INSTANTIATE_TEST_SUITE_P(Lies, LyingServerTest, testing::ValuesIn(AllLies()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weightd::source
