#include "client/cli/completion.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/cli/arguments.h"

namespace weightd::cli {
namespace {

// What the command line itself takes.
Completion After(const std::vector<std::string>& words) {
  return Complete(DescribeCommandLine(), words);
}

std::vector<std::string> Words(const std::vector<std::string>& words) {
  std::vector<std::string> candidates;
  for (const Candidate& candidate : After(words).candidates) {
    candidates.push_back(candidate.word);
  }
  return candidates;
}

using Strings = std::vector<std::string>;

TEST(CompletionTest, Commands) {
  EXPECT_EQ(Words({"stat"}), Strings{"status"});
  EXPECT_EQ(After({"stat"}).candidates[0].what, "Budget, sessions and listeners of the daemon");
  EXPECT_GE(Words({""}).size(), 20u);
  EXPECT_EQ(Words({"--output", "json", "stat"}), Strings{"status"});
  EXPECT_EQ(Words({"-o", "json", "stat"}), Strings{"status"});
  EXPECT_EQ(Words({"nonsense", "st"}), Strings{});
}

TEST(CompletionTest, OptionsOfACommandAndOfAll) {
  EXPECT_EQ(Words({"evict", "--f"}), Strings{"--force"});
  EXPECT_EQ(Words({"evict", "--out"}), Strings{"--output"});
  EXPECT_EQ(Words({"status", "--force"}), Strings{});
  EXPECT_EQ(Words({"evict", "--", "--f"}), Strings{});
}

TEST(CompletionTest, WordsOfOptions) {
  EXPECT_EQ(Words({"status", "--output", ""}), (Strings{"table", "json"}));
  EXPECT_EQ(Words({"status", "-o", "j"}), Strings{"json"});
  EXPECT_EQ(Words({"status", "--output=j"}), Strings{"--output=json"});
  EXPECT_EQ(Words({"log-level", "w"}), Strings{"warning"});
  EXPECT_EQ(Words({"completion", ""}), (Strings{"bash", "zsh", "fish"}));
}

TEST(CompletionTest, ModelsAndFiles) {
  EXPECT_TRUE(After({"evict", ""}).models);
  EXPECT_TRUE(After({"evict", "--force", "m"}).models);
  EXPECT_FALSE(After({"evict", "m", ""}).models);
  EXPECT_TRUE(After({"health", "--model", ""}).models);
  EXPECT_FALSE(After({"inspect", ""}).models);
  EXPECT_TRUE(After({"inspect", ""}).files);
  EXPECT_TRUE(After({"--ca", ""}).files);
  EXPECT_FALSE(After({"status", ""}).files);
}

TEST(CompletionTest, RemembersWhichDaemonIsMeant) {
  const Completion completion =
      After({"--socket-dir", "/run/a", "--address=host:1", "evict", "--gpu", "0", ""});
  EXPECT_EQ(completion.options.at("--socket-dir"), "/run/a");
  EXPECT_EQ(completion.options.at("--address"), "host:1");
  EXPECT_TRUE(completion.models);
}

TEST(CompletionTest, EveryShellHasAScript) {
  for (const char* const shell : kShells) {
    EXPECT_TRUE(absl::StrContains(CompletionScript(shell), "complete -- ")) << shell;
  }
}

}  // namespace
}  // namespace weightd::cli
