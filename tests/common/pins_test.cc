#include "common/pins.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd {
namespace {

const std::string kDigest(64, 'a');

TEST(Pins, AreWrittenAsDigestsWithOrWithoutAFile) {
  Pins pins;
  EXPECT_TRUE(AddPin(std::string(64, 'A'), pins).ok());
  EXPECT_TRUE(AddPin(absl::StrCat("a=b.safetensors=", kDigest), pins).ok());
  EXPECT_EQ(pins, (Pins{{"", kDigest}, {"a=b.safetensors", kDigest}}));
}

TEST(Pins, RefuseWhatIsNoDigest) {
  for (const std::string& text :
       {std::string(), std::string("a="), std::string(63, 'a'), std::string(65, 'a'),
        std::string(64, 'g'), absl::StrCat("a=sha256:", kDigest)}) {
    Pins pins;
    EXPECT_EQ(ReasonOf(AddPin(text, pins)), Reason::kInvalidArgument) << text;
    EXPECT_TRUE(pins.empty());
  }
}

TEST(Pins, RefuseASecondOneOfAFile) {
  Pins pins = {{"", kDigest}};
  EXPECT_EQ(ReasonOf(AddPin(kDigest, pins)), Reason::kInvalidArgument);
}

}  // namespace
}  // namespace weightd
