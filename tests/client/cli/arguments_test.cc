#include "client/cli/arguments.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/exit_code.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

absl::StatusOr<Arguments> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "weightctl");
  return ParseArguments(static_cast<int>(arguments.size()), arguments.data());
}

TEST(ArgumentsTest, Commands) {
  EXPECT_EQ(Parse({"status"})->command, Command::kStatus);
  EXPECT_EQ(Parse({"ls"})->command, Command::kList);
  EXPECT_EQ(Parse({"watch"})->command, Command::kWatch);
  EXPECT_EQ(Parse({"leases"})->model, "");
  EXPECT_EQ(Parse({"leases", "m"})->model, "m");
  EXPECT_TRUE(Parse({"show", "m", "--tensors"})->tensors);
  EXPECT_TRUE(Parse({"evict", "m", "--force"})->force);
  EXPECT_EQ(Parse({"pin", "m"})->command, Command::kPin);
  EXPECT_EQ(Parse({"unpin", "m"})->command, Command::kUnpin);
  EXPECT_TRUE(Parse({"doctor", "--fix"})->fix);
  EXPECT_EQ(Parse({"inspect", "f"})->model, "f");
}

TEST(ArgumentsTest, WhatMachinesAsk) {
  EXPECT_EQ(Parse({"health"})->timeout, absl::Seconds(3));
  EXPECT_EQ(Parse({"health", "--timeout", "1"})->timeout, absl::Seconds(1));
  const auto health = Parse({"health", "--ready", "--model", "m"});
  EXPECT_TRUE(health->ready);
  EXPECT_EQ(health->model, "m");
  EXPECT_EQ(Parse({"wait", "m"})->timeout, absl::Hours(1));
  EXPECT_EQ(Parse({"wait", "m", "--timeout", "60"})->timeout, absl::Minutes(1));
  EXPECT_EQ(Parse({"status"})->timeout, absl::Seconds(10));
}

TEST(ArgumentsTest, AKeyBeforeTheCommandIsOfTheConnection) {
  const auto remote = Parse({"--address", "host:1", "--key", "k.pem", "status"});
  EXPECT_EQ(remote->remote.address, "host:1");
  EXPECT_EQ(remote->remote.key_file, "k.pem");
  EXPECT_EQ(Parse({"status", "--key", "k.pem"})->remote.key_file, "k.pem");
  const auto preload = Parse({"--key", "k.pem", "preload", "m", "--key", "key-file=k"});
  EXPECT_EQ(preload->remote.key_file, "k.pem");
  EXPECT_EQ(preload->key, "key-file=k");
}

TEST(ArgumentsTest, WordsToCompleteAreTakenAsTheyAre) {
  const auto asked = Parse({"complete", "--", "evict", "--help", ""});
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->command, Command::kComplete);
  EXPECT_EQ(asked->words, (std::vector<std::string>{"evict", "--help", ""}));
}

TEST(ArgumentsTest, Preload) {
  const auto plain = Parse({"preload", "m"});
  EXPECT_TRUE(plain->wait);
  EXPECT_FALSE(plain->pin);
  const auto all = Parse({"preload", "--pin", "--no-wait", "m"});
  EXPECT_FALSE(all->wait);
  EXPECT_TRUE(all->pin);
  EXPECT_EQ(all->model, "m");
}

TEST(ArgumentsTest, Gpus) {
  EXPECT_TRUE(Parse({"preload", "m"})->gpus.empty());
  const auto several = Parse({"preload", "--gpu", "0", "--gpu=GPU-x", "m", "--no-wait"});
  ASSERT_TRUE(several.ok()) << several.status();
  EXPECT_EQ(several->model, "m");
  EXPECT_EQ(several->gpus, (std::vector<std::string>{"0", "GPU-x"}));
  EXPECT_EQ(Parse({"evict", "m", "--gpu", "1"})->gpus, std::vector<std::string>{"1"});
  EXPECT_TRUE(Parse({"evict", "m"})->gpus.empty());
  const auto drain = Parse({"drain", "--gpu", "0", "--force"});
  ASSERT_TRUE(drain.ok()) << drain.status();
  EXPECT_EQ(drain->command, Command::kDrain);
  EXPECT_EQ(drain->gpus, std::vector<std::string>{"0"});
  EXPECT_TRUE(drain->force);
  EXPECT_EQ(Parse({"resume", "--gpu", "0"})->command, Command::kResume);
  for (const auto& wrong : std::vector<std::vector<const char*>>{
           {"drain", "0"},
           {"drain", "--force"},
           {"drain", "--gpu", "0", "--wait", "1"},
           {"resume", "--wait", "1"},
           {"drain", "--gpu"},
           {"drain", "--gpu", "0", "--gpu", "1"},
           {"evict", "m", "--gpu", "0", "--gpu", "1"},
           {"resume", "--gpu", "0", "--force"},
           {"pin", "m", "--gpu", "0"},
       }) {
    EXPECT_EQ(ExitCodeOf(Parse(wrong).status()), kUsage) << wrong.back();
  }
  EXPECT_EQ(Parse({"doctor"})->cuda_driver, "");
  EXPECT_EQ(Parse({"doctor", "--cuda-driver", "/d/libcuda.so.1"})->cuda_driver, "/d/libcuda.so.1");
}

TEST(ArgumentsTest, DrainOfTheNode) {
  const auto drain = Parse({"drain"});
  ASSERT_TRUE(drain.ok()) << drain.status();
  EXPECT_EQ(drain->command, Command::kDrain);
  EXPECT_TRUE(drain->gpus.empty());
  EXPECT_EQ(drain->drain_wait, absl::ZeroDuration());
  EXPECT_EQ(Parse({"drain", "--wait", "90"})->drain_wait, absl::Seconds(90));
  EXPECT_EQ(Parse({"drain", "--wait=1m30s"})->drain_wait, absl::Seconds(90));
  EXPECT_EQ(Parse({"drain", "--wait", "0.5"})->drain_wait, absl::Milliseconds(500));
  EXPECT_EQ(Parse({"resume"})->command, Command::kResume);
  for (const char* const wrong : {"", "soon", "-1", "-5s", "25h", "inf", "nan", "10 minutes"}) {
    EXPECT_EQ(ExitCodeOf(Parse({"drain", "--wait", wrong}).status()), kUsage) << wrong;
  }
}

TEST(ArgumentsTest, KeyOfAPreload) {
  EXPECT_EQ(Parse({"preload", "m", "--key", "key-file=k"})->key, "key-file=k");
  // Nobody would hear that it is wrong.
  EXPECT_FALSE(Parse({"preload", "m", "--no-wait", "--key", "key-file=k"}).ok());
}

TEST(ArgumentsTest, PinsOfSeveralFiles) {
  const std::string a = absl::StrCat("a.safetensors=", std::string(64, 'a'));
  const std::string b = absl::StrCat("b.safetensors=", std::string(64, 'b'));
  const auto both = Parse({"preload", "--sha256", a.c_str(), "--sha256", b.c_str(), "m"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->model, "m");
  EXPECT_EQ(both->pins.size(), 2u);
  const std::string other = absl::StrCat("a.safetensors=sha256:", std::string(64, 'c'));
  EXPECT_TRUE(Parse({"preload", "--sha256", other.c_str(), "m"}).ok());
  EXPECT_FALSE(Parse({"preload", "--sha256", a.c_str(), "--sha256", other.c_str(), "m"}).ok());
  EXPECT_FALSE(Parse({"preload", "--sha256", a.c_str(), "--no-wait", "m"}).ok());
}

TEST(ArgumentsTest, Push) {
  const auto plain = Parse({"push", "f", "s3://b/f"});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->command, Command::kPush);
  EXPECT_EQ(plain->push.path, "f");
  EXPECT_EQ(plain->push.target, "s3://b/f");
  EXPECT_FALSE(plain->push.follow_links);
  const auto all = Parse({"push", "f", "s3://b/f", "--endpoint", "https://e", "--region=r",
                          "--profile=p", "--ca-file", "c", "--connections=3", "--follow-links"});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->push.store.endpoint, "https://e");
  EXPECT_EQ(all->push.store.region, "r");
  EXPECT_EQ(all->push.store.profile, "p");
  EXPECT_EQ(all->push.store.ca_file, "c");
  EXPECT_EQ(all->push.connections, 3);
  EXPECT_TRUE(all->push.follow_links);
  EXPECT_FALSE(Parse({"push", "f"}).ok());
  EXPECT_FALSE(Parse({"push", "f", "s3://b/f", "--connections=0"}).ok());
}

TEST(ArgumentsTest, CommonOptionsBeforeAndAfterTheCommand) {
  const auto before = Parse({"--socket-dir", "/d", "--output", "json", "--timeout", "2.5", "ls"});
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->socket_dir, "/d");
  EXPECT_TRUE(before->json);
  EXPECT_EQ(before->timeout, absl::Seconds(2.5));
  const auto after = Parse({"inspect", "f", "--output=json", "--socket-dir=/d"});
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_TRUE(after->json);
  EXPECT_EQ(after->socket_dir, "/d");
}

TEST(ArgumentsTest, TextIsPrintedAndIsNoError) {
  for (const char* option : {"--help", "--version"}) {
    const auto parsed = Parse({option});
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->command, Command::kPrintText);
    EXPECT_FALSE(parsed->text.empty());
  }
  EXPECT_NE(Parse({"--help"})->text.find("69 daemon not reachable"), std::string::npos);
}

TEST(ArgumentsTest, NonsenseIsUsage) {
  const std::vector<std::vector<const char*>> lines = {
      {},          {"frob"},         {"ls", "--frob"},         {"preload"},
      {"show"},    {"ls", "status"}, {"-o", "xml", "ls"},      {"--timeout", "-1", "ls"},
      {"ls", "m"}, {"inspect"},      {"--timeout", "x", "ls"}, {"--output"}};
  for (const auto& line : lines) {
    EXPECT_EQ(ExitCodeOf(Parse(line).status()), kUsage) << (line.empty() ? "" : line[0]);
  }
}

TEST(ArgumentsTest, AnUnknownCommandIsNamedAndTheNearestOffered) {
  const absl::Status near = Parse({"--output", "json", "lss"}).status();
  EXPECT_EQ(near.message(), "unknown command \"lss\"");
  EXPECT_EQ(HintOf(near), "did you mean ls? See weightctl --help");
  EXPECT_EQ(HintOf(Parse({"preloda", "llama", "--pin"}).status()),
            "did you mean preload? See weightctl --help");
  const absl::Status far = Parse({"frobnicate"}).status();
  EXPECT_EQ(far.message(), "unknown command \"frobnicate\"");
  EXPECT_EQ(HintOf(far), "see weightctl --help");
  EXPECT_FALSE(absl::StrContains(Parse({"--lss"}).status().message(), "unknown command"));
}

TEST(ArgumentsTest, JsonIsWantedAlsoByLinesThatDoNotParse) {
  const std::vector<const char*> line = {"weightctl", "frob", "--output", "json"};
  EXPECT_TRUE(WantsJson(static_cast<int>(line.size()), line.data()));
  EXPECT_FALSE(WantsJson(2, line.data()));
  EXPECT_FALSE(WantsJson(3, line.data()));
}

TEST(ExitCodeTest, FollowsTheReason) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  const auto code_of = [](Reason reason) { return int{ExitCodeOf(Error(reason, "x"))}; };
  EXPECT_EQ(code_of(Reason::kInvalidUri), 64);
  EXPECT_EQ(code_of(Reason::kInvalidArgument), 64);
  EXPECT_EQ(code_of(Reason::kMalformedModel), 65);
  EXPECT_EQ(code_of(Reason::kVerificationFailed), 65);
  EXPECT_EQ(code_of(Reason::kModelNotFound), 66);
  EXPECT_EQ(code_of(Reason::kModelNotResident), 66);
  EXPECT_EQ(code_of(Reason::kShuttingDown), 69);
  EXPECT_EQ(code_of(Reason::kInternal), 70);
  EXPECT_EQ(code_of(Reason::kOutputNotCreated), 73);
  EXPECT_EQ(code_of(Reason::kOutputNotWritten), 74);
  EXPECT_EQ(code_of(Reason::kBudgetExceeded), 75);
  EXPECT_EQ(code_of(Reason::kHostMemoryShort), 75);
  EXPECT_EQ(code_of(Reason::kSourceUnavailable), 75);
  EXPECT_EQ(code_of(Reason::kModelInUse), 75);
  EXPECT_EQ(code_of(Reason::kDeviceUnavailable), 75);
  EXPECT_EQ(code_of(Reason::kDeviceMemoryShort), 75);
  EXPECT_EQ(code_of(Reason::kPlacementDiffers), 77);
  EXPECT_EQ(code_of(Reason::kDeviceNotVisible), 77);
  EXPECT_EQ(code_of(Reason::kNotAllowed), 77);
  EXPECT_EQ(code_of(Reason::kSourceDenied), 77);
  EXPECT_EQ(code_of(Reason::kAddressRefused), 77);
  EXPECT_EQ(code_of(Reason::kDaemonUnreachable), 69);
}

}  // namespace
}  // namespace weightd::cli
