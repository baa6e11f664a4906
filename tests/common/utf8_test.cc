#include "common/utf8.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace weightd {
namespace {

TEST(Utf8, AcceptsEveryLengthAtItsBounds) {
  for (absl::string_view text :
       {"", "plain\x7f", "\xC2\x80\xDF\xBF", "\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF",
        "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(FirstInvalidUtf8(text), std::nullopt) << text;
  }
}

TEST(Utf8, NamesTheFirstStrayByte) {
  for (absl::string_view stray :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2 ", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE1\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF1\x80\x80", "\xFF"}) {
    EXPECT_EQ(FirstInvalidUtf8(std::string("ab\xC3\xA9").append(stray.data(), stray.size())), 4);
  }
}

TEST(Utf8, MalformedBytesAreReplaced) {
  EXPECT_EQ(ToUtf8("gr\xC3\xBC\xC3\x9F"), "gr\xC3\xBC\xC3\x9F");
  EXPECT_EQ(ToUtf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
  EXPECT_EQ(ToUtf8("a\xFFz\xC3"), "a?z?");
  // Overlong, surrogate, beyond the last code point.
  EXPECT_EQ(ToUtf8("\xC0\xAF"), "??");
  EXPECT_EQ(ToUtf8("\xED\xA0\x80"), "???");
  EXPECT_EQ(ToUtf8("\xF4\x90\x80\x80"), "????");
}

}  // namespace
}  // namespace weightd
