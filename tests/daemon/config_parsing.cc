#include "tests/daemon/config_parsing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd {

absl::StatusOr<v1::Config> Parse(absl::string_view text) { return ParseConfig(text, "w.yaml", {}); }

v1::Config Parsed(absl::string_view text) {
  auto config = Parse(text);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : v1::Config();
}

void ExpectRefused(const std::vector<Broken>& cases) {
  for (const Broken& broken : cases) {
    const auto config = Parse(broken.text);
    ASSERT_FALSE(config.ok()) << broken.text;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(config.status().message()),
                testing::HasSubstr(absl::StrCat("w.yaml:", broken.message)))
        << broken.text;
  }
}

}  // namespace weightd
