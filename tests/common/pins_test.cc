#include "common/pins.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/ascii.h"
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
        std::string(64, 'g'), absl::StrCat("a=sha256:sha256:", kDigest),
        absl::StrCat("a=md5:", kDigest), std::string("sha256:")}) {
    Pins pins;
    EXPECT_EQ(ReasonOf(AddPin(text, pins)), Reason::kInvalidArgument) << text;
    EXPECT_TRUE(pins.empty());
  }
}

TEST(Pins, MaySayThatTheyAreSha256) {
  Pins pins;
  EXPECT_TRUE(AddPin(absl::StrCat("sha256:", kDigest), pins).ok());
  EXPECT_TRUE(AddPin(absl::StrCat("a.safetensors=sha256:", kDigest), pins).ok());
  EXPECT_TRUE(AddPin("sha256:b", absl::StrCat("sha256:", kDigest), pins).ok());
  EXPECT_EQ(pins, (Pins{{"", kDigest}, {"a.safetensors", kDigest}, {"sha256:b", kDigest}}));
}

TEST(Pins, OfAFileMustBeEqual) {
  Pins pins = {{"", kDigest}};
  EXPECT_TRUE(AddPin(absl::AsciiStrToUpper(kDigest), pins).ok());
  EXPECT_EQ(ReasonOf(AddPin(std::string(64, 'f'), pins)), Reason::kInvalidArgument);
  EXPECT_EQ(pins, (Pins{{"", kDigest}}));
}

}  // namespace
}  // namespace weightd
