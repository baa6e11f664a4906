#include "client/cli/commands.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/cli/arguments.h"
#include "client/cli/exit_code.h"
#include "tests/fakes/fake_daemon.h"

namespace weightd::cli {
namespace {

using fakes::FakeDaemon;
using fakes::SmallModel;

v1::GpuStatus FailedGpu() {
  v1::GpuStatus gpu;
  gpu.set_uuid("GPU-00112233-4455-6677-8899-aabbccddeeff");
  gpu.set_name("H200");
  gpu.set_state(v1::GpuStatus::FAILED);
  gpu.set_total_bytes(uint64_t{80} << 30);
  gpu.mutable_tier()->set_budget(uint64_t{40} << 30);
  gpu.mutable_tier()->set_resident(uint64_t{2} << 30);
  gpu.set_last_error("Xid\n79");
  return gpu;
}

class CommandsTest : public testing::Test {
 protected:
  CommandsTest() { daemon_.Add("small", SmallModel()); }

  // Runs weightctl with this command line; the exit code.
  int Run(std::vector<std::string> words) {
    words.insert(words.begin(), {"weightctl", "--socket-dir", daemon_.socket_dir()});
    std::vector<const char*> line;
    line.reserve(words.size());
    for (const std::string& word : words) {
      line.push_back(word.c_str());
    }
    const int count = static_cast<int>(line.size());
    out_.str("");
    err_.str("");
    const auto arguments = ParseArguments(count, line.data());
    const absl::Status status =
        arguments.ok() ? RunCommand(*arguments, {out_, err_}) : arguments.status();
    if (!status.ok()) {
      PrintError(status, WantsJson(count, line.data()), err_);
    }
    return ExitCodeOf(status);
  }

  FakeDaemon daemon_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(CommandsTest, Status) {
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("budget       1.0 GiB"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"status", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str().rfind(R"({"version":"fake",)", 0), 0u) << out_.str();
}

TEST_F(CommandsTest, StatusOfWhatOutlivesTheDaemon) {
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("keeper       none: models end with the daemon\n"), std::string::npos)
      << out_.str();
  FakeDaemon::Faults script;
  script.status.set_draining(true);
  v1::KeeperStatus& keeper = *script.status.mutable_keeper();
  keeper.set_place("/k");
  keeper.set_reachable(true);
  keeper.set_stored(12);
  daemon_.Set(script);
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("node         draining: no load starts, see weightctl resume\n"
                            "keeper       /k: 12 descriptors\n"),
            std::string::npos)
      << out_.str();
  EXPECT_EQ(Run({"health"}), kGood);
  EXPECT_NE(out_.str().find(", draining: nothing is loaded\n"), std::string::npos) << out_.str();
  keeper.set_reachable(false);
  keeper.set_stored(0);
  keeper.set_pending(9);
  keeper.set_refused(2);
  keeper.set_others(1);
  v1::Readoption& readoption = *script.status.mutable_readoption();
  readoption.set_readopted(1);
  readoption.set_not_readopted(1);
  readoption.set_pins_lost(1);
  v1::NotReadopted& failure = *readoption.add_failures();
  failure.set_model("file:///m");
  failure.set_pinned(true);
  failure.mutable_error()->set_message("its index:\nnot there");
  daemon_.Set(script);
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("keeper       /k, not reachable: 0 descriptors, 9 waiting, 2 refused, "
                            "1 of other daemons (keeper.away in the daemon's log says why)\n"
                            "readopted    1 model, 1 not, 1 pin lost\n"
                            "  not        file:///m (pinned): its index:\\x0anot there\n"),
            std::string::npos)
      << out_.str();
}

TEST_F(CommandsTest, List) {
  EXPECT_EQ(Run({"ls"}), kGood);
  EXPECT_NE(out_.str().find("small  resident  4.0 KiB        2"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"ls", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str().rfind(R"({"models":[{"model":"small")", 0), 0u) << out_.str();
}

TEST_F(CommandsTest, Show) {
  EXPECT_EQ(Run({"show", "small"}), kGood);
  EXPECT_EQ(out_.str().find("TENSOR"), std::string::npos);
  EXPECT_EQ(Run({"show", "small", "--tensors"}), kGood);
  EXPECT_NE(out_.str().find("a       F32    [2, 2]       0     16"), std::string::npos)
      << out_.str();
}

TEST_F(CommandsTest, PreloadShowsProgressAndResult) {
  FakeDaemon::Faults script;
  script.progress.resize(1);
  script.progress[0].set_phase(v1::TRANSFERRING);
  script.progress[0].set_bytes_done(1024);
  script.progress[0].set_bytes_total(2048);
  daemon_.Set(script);
  EXPECT_EQ(Run({"preload", "small", "--pin"}), kGood);
  EXPECT_EQ(err_.str(), "transferring 1.0 KiB of 2.0 KiB\n");
  EXPECT_EQ(out_.str(), "small: resident, pinned\n");
  EXPECT_EQ(Run({"preload", "small", "-o", "json"}), kGood);
  EXPECT_EQ(err_.str(), "");
  EXPECT_EQ(Run({"preload", "small", "--no-wait"}), kGood);
  EXPECT_EQ(out_.str(), "small: loading 33%\n");
}

TEST_F(CommandsTest, PreloadSendsTheSecretThatItIsPointedTo) {
  ASSERT_EQ(setenv("WEIGHTCTL_TEST_KEY", std::string(64, 'a').c_str(), 1), 0);
  ASSERT_EQ(setenv("WEIGHTCTL_TEST_PASSWORD", "horse", 1), 0);
  EXPECT_EQ(Run({"preload", "small", "--key", "key-env=WEIGHTCTL_TEST_KEY"}), kGood);
  EXPECT_EQ(daemon_.secret().key(), std::string(32, '\xaa'));
  EXPECT_EQ(Run({"preload", "small", "--key", "password-env=WEIGHTCTL_TEST_PASSWORD"}), kGood);
  EXPECT_EQ(daemon_.secret().password(), "horse");
  EXPECT_EQ(Run({"preload", "small", "--key", "hunter2"}), kUsage);
  EXPECT_NE(err_.str().find("key-file=PATH"), std::string::npos) << err_.str();
  EXPECT_EQ(err_.str().find("hunter2"), std::string::npos);
  EXPECT_EQ(Run({"preload", "small", "--key", "key-env=WEIGHTCTL_TEST_PASSWORD"}),
            ExitCode::kNotAllowed);
  EXPECT_EQ(err_.str().find("horse"), std::string::npos) << err_.str();
}

TEST_F(CommandsTest, GpusInStatus) {
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_EQ(out_.str().find("GPU"), std::string::npos) << out_.str();
  daemon_.AddGpu(FailedGpu());
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("  0  GPU-00112233-4455-6677-8899-aabbccddeeff  H200  failed"),
            std::string::npos)
      << out_.str();
  EXPECT_NE(out_.str().find("40 GiB   2.0 GiB      0 B       0 B       -\n"), std::string::npos)
      << out_.str();
  EXPECT_NE(out_.str().find("GPU 0: its last worker ended: Xid\\x0a79\n"), std::string::npos)
      << out_.str();
  EXPECT_EQ(Run({"status", "-o", "json"}), kGood);
  EXPECT_NE(out_.str().find(R"("gpus":[{"uuid":"GPU-00112233-4455-6677-8899-aabbccddeeff",)"
                            R"("index":0,"name":"H200","state":"FAILED",)"),
            std::string::npos)
      << out_.str();
}

TEST_F(CommandsTest, DrainAndResume) {
  daemon_.AddGpu(FailedGpu());
  EXPECT_EQ(Run({"drain", "--gpu", "0", "--force"}), kGood) << err_.str();
  EXPECT_EQ(out_.str(),
            "GPU 0 (GPU-00112233-4455-6677-8899-aabbccddeeff): drained\nfreed 1.0 MiB\n");
  EXPECT_EQ(Run({"doctor"}), kGood);
  EXPECT_NE(out_.str().find("remedy: weightctl resume --gpu 0"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"drain", "--gpu", "0", "-o", "json"}), kGood);
  EXPECT_NE(out_.str().find(R"("state":"DRAINED")"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find(R"("freed_bytes":0})"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"resume", "--gpu", "0"}), kGood);
  EXPECT_EQ(out_.str(), "GPU 0 (GPU-00112233-4455-6677-8899-aabbccddeeff): idle\n");
  EXPECT_EQ(Run({"resume", "--gpu", "0", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str().rfind(R"({"gpu":{"uuid":"GPU-)", 0), 0u) << out_.str();
  EXPECT_EQ(Run({"drain", "--gpu", "7"}), kTryAgain);
  EXPECT_EQ(err_.str(), "weightctl: no such GPU\n");
}

TEST_F(CommandsTest, DrainAndResumeOfTheNode) {
  EXPECT_EQ(Run({"drain", "--wait", "2s"}), kGood) << err_.str();
  EXPECT_EQ(out_.str(),
            "draining: no load starts here until the next daemon runs, or weightctl resume\n"
            "loads: 2 ended, 1 stopped\n"
            "handed over: 2 models, 3.0 MiB, to /run/weightd/keeper\n");
  EXPECT_EQ(Run({"drain", "-o", "json"}), kGood);
  EXPECT_NE(out_.str().find(R"("handed_over":true)"), std::string::npos) << out_.str();
  FakeDaemon::Faults script;
  script.drained.set_lost_models(1);
  daemon_.Set(script);
  EXPECT_EQ(Run({"drain"}), kGood);
  EXPECT_NE(out_.str().find("\nnot handed over: no keeper holds models beyond this daemon\n"
                            "to be loaded anew: 1 model\n"),
            std::string::npos)
      << out_.str();
  script.drained.mutable_keeper()->set_place("/k");
  script.drained.set_kept_models(2);
  script.drained.set_kept_bytes(1 << 20);
  daemon_.Set(script);
  EXPECT_EQ(Run({"drain"}), kTryAgain);
  EXPECT_NE(out_.str().find("\nhanded over: 2 models, 1.0 MiB, to /k\n"
                            "not all handed over: the keeper /k can't be reached\n"
                            "to be loaded anew: 1 model\n"),
            std::string::npos)
      << out_.str();
  script.drained.mutable_keeper()->set_reachable(true);
  daemon_.Set(script);
  EXPECT_EQ(Run({"drain"}), kTryAgain);
  EXPECT_NE(out_.str().find("\nnot all handed over: the keeper /k was not given all"),
            std::string::npos)
      << out_.str();
  EXPECT_EQ(Run({"resume"}), kGood);
  EXPECT_EQ(out_.str(), "loads start again\n");
  EXPECT_EQ(Run({"resume", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str(), "{\"was_draining\":true}\n");
}

TEST_F(CommandsTest, EventsOfGpus) {
  FakeDaemon::Faults script;
  script.events.resize(2);
  script.events[0].set_kind(v1::Event::GPU_COPIED);
  script.events[0].set_model("small");
  script.events[0].set_gpu("GPU-0");
  script.events[0].set_bytes(1 << 20);
  script.events[1].set_kind(v1::Event::GPU_LOST);
  script.events[1].set_gpu("GPU-0");
  script.events[1].mutable_error()->set_message("Xid 79");
  daemon_.Set(script);
  EXPECT_EQ(Run({"watch"}), kGood);
  EXPECT_EQ(out_.str(),
            "1970-01-01T00:00:00.000Z gpu_copied small on GPU-0 1.0 MiB\n"
            "1970-01-01T00:00:00.000Z gpu_lost on GPU-0: Xid 79\n");
  EXPECT_EQ(Run({"watch", "-o", "json"}), kGood);
  EXPECT_NE(out_.str().find(R"("gpu":"GPU-0")"), std::string::npos) << out_.str();
}

TEST_F(CommandsTest, EventsOfLeases) {
  FakeDaemon::Faults script;
  script.events.resize(1);
  script.events[0].set_kind(v1::Event::LEASE_GRANTED);
  script.events[0].set_model("small");
  script.events[0].set_lease_id(7);
  script.events[0].set_listener("pods\n");
  script.events[0].mutable_took()->set_seconds(3);
  script.events[0].mutable_took()->set_nanos(240'000'000);
  daemon_.Set(script);
  EXPECT_EQ(Run({"watch", "--events"}), kGood);
  EXPECT_EQ(out_.str(),
            "1970-01-01T00:00:00.000Z lease_granted small lease 7 in 3.2s by pods\\x0a\n");
}

TEST_F(CommandsTest, ConfiguredModels) {
  v1::ConfiguredModel model;
  model.set_name("llama");
  model.set_uri("https://models.example/llama/");
  model.set_preload(true);
  model.set_state(v1::ConfiguredModel::RETRYING);
  model.set_failures(3);
  model.set_last_error("no such host");
  model.mutable_next_try_at()->set_seconds(1);
  daemon_.AddConfigured(model);
  EXPECT_EQ(Run({"configured"}), kGood);
  EXPECT_NE(out_.str().find("llama  https://models.example/llama/  yes      no      retrying"),
            std::string::npos)
      << out_.str();
  EXPECT_NE(out_.str().find("3  now       no such host\n"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"configured", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str().rfind(R"({"models":[{"name":"llama",)", 0), 0u) << out_.str();
}

TEST_F(CommandsTest, Reload) {
  EXPECT_EQ(Run({"reload"}), kGood);
  EXPECT_EQ(out_.str(), "no model changed\n");
  FakeDaemon::Faults script;
  script.reloaded.add_added("a");
  script.reloaded.add_added("b");
  script.reloaded.add_removed("c");
  script.reloaded.add_needs_restart("cache.max_loads");
  daemon_.Set(script);
  EXPECT_EQ(Run({"reload"}), kGood);
  EXPECT_EQ(out_.str(),
            "added         a, b\n"
            "removed       c\n"
            "needs restart cache.max_loads\n");
  EXPECT_EQ(Run({"reload", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str(), R"({"added":["a","b"],"changed":[],"removed":["c"],)"
                        R"("needs_restart":["cache.max_loads"]})"
                        "\n");
}

TEST_F(CommandsTest, LogLevel) {
  EXPECT_EQ(Run({"log-level", "debug"}), kGood);
  EXPECT_EQ(out_.str(), "log level debug, was info\n");
  EXPECT_EQ(Run({"status"}), kGood);
  EXPECT_NE(out_.str().find("log level    debug\n"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("revision     0123abc\n"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"log-level", "loud"}), kUsage);
}

TEST_F(CommandsTest, Metrics) {
  EXPECT_EQ(Run({"metrics"}), kGood);
  EXPECT_EQ(out_.str(), "# TYPE weightd_sessions gauge\nweightd_sessions 0\n");
}

TEST_F(CommandsTest, Health) {
  EXPECT_EQ(Run({"health"}), kGood);
  EXPECT_EQ(out_.str(), "weightd fake serves, up 0s\n");
  EXPECT_EQ(Run({"health", "--ready", "--model", "small"}), kGood);
  EXPECT_EQ(out_.str(),
            "weightd fake serves, up 0s, 0 preloaded models ready, the model is resident\n");
  EXPECT_EQ(Run({"health", "--model", "large"}), kNoSuchObject);
  EXPECT_EQ(Run({"health", "--ready", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str(), R"({"serving":true,"version":"fake","uptime":0,"draining":false,)"
                        R"("preloaded":0,"evicted":0})"
                        "\n");
  Arguments arguments;
  arguments.command = Command::kHealth;
  arguments.socket_dir = "/nonexistent/weightd";
  EXPECT_EQ(ExitCodeOf(RunCommand(arguments, {out_, err_})), kDaemonUnreachable);
}

TEST_F(CommandsTest, HealthNamesThePreloadsThatAreMissing) {
  v1::ConfiguredModel model;
  model.set_name("on-demand");
  model.set_state(v1::ConfiguredModel::ON_DEMAND);
  daemon_.AddConfigured(model);
  EXPECT_EQ(Run({"health", "--ready"}), kGood) << err_.str();
  model.set_preload(true);
  model.set_state(v1::ConfiguredModel::READY);
  daemon_.AddConfigured(model);
  EXPECT_EQ(Run({"health", "--ready"}), kGood) << err_.str();
  EXPECT_NE(out_.str().find(", 1 preloaded model ready\n"), std::string::npos) << out_.str();
  model.set_name("left");
  model.set_state(v1::ConfiguredModel::EVICTED);
  daemon_.AddConfigured(model);
  EXPECT_EQ(Run({"health", "--ready"}), kGood) << err_.str();
  EXPECT_NE(out_.str().find(", 2 preloaded models ready, 1 evicted since\n"), std::string::npos)
      << out_.str();
  model.set_name("llama");
  model.set_state(v1::ConfiguredModel::RETRYING);
  model.set_last_error("no such host");
  daemon_.AddConfigured(model);
  EXPECT_EQ(Run({"health", "--ready"}), kNoSuchObject);
  EXPECT_EQ(err_.str(),
            "weightctl: 1 of 3 preloaded models not ready: llama (retrying: no such host); see "
            "weightctl configured\n");
}

TEST_F(CommandsTest, WaitEndsWhenAClientCanAttach) {
  EXPECT_EQ(Run({"wait", "small"}), kGood) << err_.str();
  EXPECT_EQ(out_.str().rfind("small: there, 4.0 KiB, after ", 0), 0u) << out_.str();
  EXPECT_TRUE(daemon_.AwaitLeases(0));
  EXPECT_EQ(Run({"wait", "small", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str(), "{\"model\":\"small\",\"bytes\":4096}\n");
}

TEST_F(CommandsTest, WaitEndsAtOnceIfWaitingIsOfNoUse) {
  EXPECT_EQ(Run({"wait", "large", "--timeout", "3600"}), kNoSuchObject);
  EXPECT_EQ(err_.str(), "weightctl: no such model\n");
}

TEST_F(CommandsTest, WaitIsForThisNode) {
  EXPECT_EQ(Run({"wait", "small", "--address", "node7.example:7443"}), kUsage);
  EXPECT_TRUE(absl::StrContains(err_.str(), "--address names another one")) << err_.str();
}

TEST_F(CommandsTest, WaitSaysWhyItGaveUp) {
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::MODEL_NOT_RESIDENT);
  faults.error.set_message("not here");
  daemon_.Set(faults);
  EXPECT_EQ(Run({"wait", "small", "--timeout", "1.5"}), kTryAgain);
  EXPECT_EQ(err_.str(),
            "waiting: not here\n"
            "weightctl: small was not there within 1s: not here\n");
}

TEST_F(CommandsTest, CompletesNamesOfModels) {
  v1::ConfiguredModel model;
  model.set_name("smart");
  daemon_.AddConfigured(model);
  Arguments arguments;
  arguments.command = Command::kComplete;
  arguments.words = {"--socket-dir", daemon_.socket_dir(), "show", "sm"};
  EXPECT_TRUE(RunCommand(arguments, {out_, err_}).ok());
  EXPECT_EQ(out_.str(), "small\nsmart\n:files\n");
  out_.str("");
  arguments.words[1] = "/nonexistent/weightd";
  EXPECT_TRUE(RunCommand(arguments, {out_, err_}).ok());
  EXPECT_EQ(out_.str(), ":files\n");
  EXPECT_EQ(err_.str(), "");
}

TEST_F(CommandsTest, GpusOfAModel) {
  EXPECT_EQ(Run({"preload", "small", "--gpu", "all", "--gpu", "1"}), kGood);
  EXPECT_EQ(daemon_.named_gpus(), (std::vector<std::string>{"all", "1"}));
  EXPECT_EQ(out_.str(), "small: resident, on all, 1\n");
  EXPECT_EQ(Run({"evict", "small", "--gpu", "1"}), kGood);
  EXPECT_EQ(daemon_.named_gpus(), std::vector<std::string>{"1"});
  EXPECT_EQ(Run({"evict", "small"}), kGood);
  EXPECT_EQ(daemon_.named_gpus(), std::vector<std::string>{""});
  EXPECT_EQ(Run({"ls"}), kGood);
  EXPECT_NE(out_.str().find("LAST USED  GPUS\n"), std::string::npos) << out_.str();
}

TEST_F(CommandsTest, ErrorsAreOneLineOrOneObject) {
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::BUDGET_EXCEEDED);
  faults.error.set_message("needs 9");
  faults.error.set_hint("evict\nmore");
  daemon_.Set(faults);
  EXPECT_EQ(Run({"status"}), kTryAgain);
  EXPECT_EQ(err_.str(), "weightctl: needs 9; evict\\x0amore\n");
  EXPECT_EQ(Run({"status", "--output", "json"}), kTryAgain);
  EXPECT_EQ(err_.str(),
            R"({"error":{"reason":"BUDGET_EXCEEDED","message":"needs 9","hint":"evict\nmore"}})"
            "\n");
  EXPECT_EQ(out_.str(), "");
}

TEST_F(CommandsTest, MissingDaemon) {
  EXPECT_EQ(Run({"--socket-dir", "/nonexistent/weightd", "ls"}), kUsage);
  Arguments arguments;
  arguments.command = Command::kList;
  arguments.socket_dir = "/nonexistent/weightd";
  EXPECT_EQ(ExitCodeOf(RunCommand(arguments, {out_, err_})), kDaemonUnreachable);
}

TEST_F(CommandsTest, DoctorFindsTheDaemon) {
  EXPECT_EQ(Run({"doctor"}), kGood) << out_.str();
  EXPECT_NE(out_.str().find("weightd fake answers"), std::string::npos) << out_.str();
  EXPECT_EQ(Run({"doctor", "-o", "json"}), kGood);
  EXPECT_EQ(out_.str().rfind(R"({"checks":[{"check":"kernel","state":"ok")", 0), 0u) << out_.str();
}

}  // namespace
}  // namespace weightd::cli
