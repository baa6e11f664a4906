#include "daemon/config_difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "daemon/config.h"

namespace weightd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Config Config(const std::string& text) {
  auto config = ParseConfig(text, "w.yaml", {});
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

v1::ReloadConfigResponse Difference(const std::string& running, const std::string& file) {
  return DifferenceOf(Config(running), Config(file));
}

TEST(ConfigDifferenceTest, NamesModels) {
  const v1::ReloadConfigResponse difference = Difference(
      "models: [{name: gone, uri: /a}, {name: same, uri: /b}, {name: other, uri: /c}]",
      "models: [{name: z, uri: /z}, {name: other, uri: /c, pin: true}, {name: same, uri: /b}, "
      "{name: new, uri: /a}]");
  EXPECT_THAT(difference.added(), ElementsAre("new", "z"));
  EXPECT_THAT(difference.changed(), ElementsAre("other"));
  EXPECT_THAT(difference.removed(), ElementsAre("gone"));
  EXPECT_THAT(difference.needs_restart(), IsEmpty());
}

TEST(ConfigDifferenceTest, TheOrderOfModelsIsNoDifference) {
  const v1::ReloadConfigResponse difference =
      Difference("models: [{name: a, uri: /a}, {name: b, uri: /b}]",
                 "models: [{name: b, uri: /b}, {name: a, uri: /a}]");
  EXPECT_EQ(difference.ByteSizeLong(), 0u);
}

TEST(ConfigDifferenceTest, TellsFieldsThatTakeARestart) {
  const v1::ReloadConfigResponse difference = Difference(
      "sources: {http: {chunk: 1MiB}}\nlisteners: [{name: a, directory: /a}]\nlog: {level: info}",
      "sources: {http: {chunk: 2MiB, stall_timeout: 5s}}\n"
      "listeners: [{name: a, directory: /a, max_sessions: 3}, {name: b, directory: /b}]\n"
      "log: {level: debug, format: text}");
  EXPECT_THAT(difference.needs_restart(),
              ElementsAre("listeners[0].max_sessions", "listeners[1]", "log.format",
                          "sources.http.chunk", "sources.http.stall_timeout"));
}

}  // namespace
}  // namespace weightd
