#include "daemon/source/hf/hf_settings.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/hf/hf_token.h"

namespace weightd::source {
namespace {

HfSettings Settings(std::map<std::string, std::string> variables, std::string home = "/home/u") {
  Environment environment;
  environment.variable = [variables = std::move(variables)](absl::string_view name) {
    const auto found = variables.find(std::string(name));
    return found == variables.end() ? std::string() : found->second;
  };
  environment.home = std::move(home);
  return HfSettingsOf(environment);
}

// As huggingface_hub has them when nobody says anything.
TEST(HfSettings, HaveDefaults) {
  const HfSettings settings = Settings({});
  EXPECT_EQ(*settings.endpoint, "https://huggingface.co");
  EXPECT_EQ(settings.token.value, "");
  EXPECT_EQ(settings.token.file, "/home/u/.cache/huggingface/token");
  EXPECT_FALSE(settings.token.file_required);
  EXPECT_EQ(settings.cache, "/home/u/.cache/huggingface/hub");
  EXPECT_FALSE(settings.offline);
}

TEST(HfSettings, WithoutAHomeAreNowhere) {
  for (const HfSettings& settings : {Settings({}, ""), Settings({{"HF_HOME", "~/hf"}}, "")}) {
    EXPECT_EQ(settings.token.file, "");
    EXPECT_EQ(settings.cache, "");
  }
}

TEST(HfSettings, TheNearestVariableCounts) {
  HfSettings settings = Settings({{"XDG_CACHE_HOME", "/x"}});
  EXPECT_EQ(settings.token.file + " " + settings.cache, "/x/huggingface/token /x/huggingface/hub");
  settings = Settings({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "~/hf"}});
  EXPECT_EQ(settings.token.file + " " + settings.cache, "/home/u/hf/token /home/u/hf/hub");
  settings = Settings({{"HF_HOME", "/hf"},
                       {"HUGGINGFACE_HUB_CACHE", "/old"},
                       {"HF_TOKEN_PATH", "/t"},
                       {"HUGGING_FACE_HUB_TOKEN", "hf_old"}});
  EXPECT_EQ(settings.token.file + " " + settings.cache, "/t /old");
  EXPECT_EQ(settings.token.value, "hf_old");
  settings = Settings({{"HF_HUB_CACHE", "/new"},
                       {"HUGGINGFACE_HUB_CACHE", "/old"},
                       {"HF_TOKEN", "hf_new"},
                       {"HUGGING_FACE_HUB_TOKEN", "hf_old"},
                       {"HF_ENDPOINT", "https://hub.example"}});
  EXPECT_EQ(settings.cache, "/new");
  EXPECT_EQ(settings.token.value, "hf_new");
  EXPECT_EQ(*settings.endpoint, "https://hub.example");
}

TEST(HfSettings, AreOfflineByTheHubsWords) {
  for (const char* yes : {"1", "on", "Yes", "TRUE"}) {
    EXPECT_TRUE(Settings({{"HF_HUB_OFFLINE", yes}}).offline) << yes;
    EXPECT_TRUE(Settings({{"TRANSFORMERS_OFFLINE", yes}}).offline) << yes;
    EXPECT_FALSE(Settings({{"HF_HUB_OFFLINE", "0"}, {"TRANSFORMERS_OFFLINE", yes}}).offline) << yes;
  }
  EXPECT_FALSE(Settings({{"HF_HUB_OFFLINE", "2"}}).offline);
}

TEST(HfSettings, AnEndpointIsAWebServersAddress) {
  EXPECT_EQ(*CheckHubEndpoint("HTTPS://Hub.Example/a/"), "https://hub.example/a");
  for (const char* endpoint :
       {"", "hub.example", "ftp://hub.example", "https://hf_secret@hub.example",
        "https://hub.example/?token=hf_secret"}) {
    const absl::Status status = CheckHubEndpoint(endpoint).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << endpoint;
    EXPECT_FALSE(absl::StrContains(status.ToString(), "hf_secret")) << endpoint;
  }
}

TEST(HfSettings, AnEndpointOfTheEnvironmentThatIsNoneIsNobodysMistakeYet) {
  const absl::Status status = Settings({{"HF_ENDPOINT", "hf_secret@hub"}}).endpoint.status();
  EXPECT_EQ(ReasonOf(status), Reason::kUnsupported);
  EXPECT_TRUE(absl::StrContains(status.message(), "HF_ENDPOINT"));
  EXPECT_TRUE(absl::StrContains(HintOf(status), "https://host"));
  EXPECT_FALSE(absl::StrContains(status.ToString(), "hf_secret"));
}

HfToken OfValue(std::string value) {
  HfToken token;
  token.value = std::move(value);
  return token;
}

HfToken OfFile(std::string file) {
  HfToken token;
  token.file = std::move(file);
  return token;
}

class HfTokenTest : public testing::Test {
 protected:
  std::string Written(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return path_;
  }

  const std::string path_ = testing::TempDir() + "/token";
};

TEST_F(HfTokenTest, IsTheValueElseWhatTheFileHoldsNow) {
  EXPECT_EQ(*HfToken{}.Get(), "");
  HfToken token = OfFile(Written(" hf_one\n"));
  EXPECT_EQ(*token.Get(), "hf_one");
  Written("hf_two");
  EXPECT_EQ(*token.Get(), "hf_two");
  token.value = "hf_value\n";
  EXPECT_EQ(*token.Get(), "hf_value");
}

TEST_F(HfTokenTest, AFileThatIsNotThereMattersWhereItWasNamed) {
  const std::string missing = testing::TempDir() + "/missing";
  EXPECT_EQ(*OfFile(missing).Get(), "");
  HfToken named = OfFile(missing);
  named.file_required = true;
  const absl::Status status = named.Get().status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceDenied);
  EXPECT_TRUE(absl::StrContains(status.message(), missing));
}

// It becomes a line of a request.
TEST_F(HfTokenTest, WhatIsNoTokenIsRefusedAndNotTold) {
  for (const std::string& text :
       {std::string("hf_secret\r\nx: y"), std::string("hf_secret\0", 10),
        std::string("hf_secret more"), "hf_secret" + std::string(4096, 'x'),
        std::string("hf_secret\xff")}) {
    for (const HfToken& token : {OfValue(text), OfFile(Written(text))}) {
      const absl::Status status = token.Get().status();
      EXPECT_EQ(ReasonOf(status), Reason::kSourceDenied);
      EXPECT_FALSE(absl::StrContains(status.ToString(), "hf_secret"));
    }
  }
}

}  // namespace
}  // namespace weightd::source
