#include "common/printable_text.h"

#include <gtest/gtest.h>

namespace weightd {
namespace {

TEST(PrintableText, TerminalsAreNotCommanded) {
  EXPECT_EQ(PrintableText("a\x1b[2Jb\n\x7f"), "a\\x1b[2Jb\\x0a\\x7f");
  EXPECT_EQ(PrintableText("\xc2\x9b"), "\\u009b");
  EXPECT_EQ(PrintableText("é—"), "é—");
}

TEST(PrintableText, NothingTurnsOrHidesText) {
  EXPECT_EQ(PrintableText("a\u202etxt.exe\u2066"), "a\\u202etxt.exe\\u2066");
  EXPECT_EQ(PrintableText("a\u200b\u200f\u2028\ufeff"), "a\\u200b\\u200f\\u2028\\ufeff");
  EXPECT_EQ(PrintableText("\u200a\u2010\u2027\u202f\u2065\u206a"),
            "\u200a\u2010\u2027\u202f\u2065\u206a");
  EXPECT_EQ(PrintableText("日本 🤗"), "日本 🤗");
}

TEST(PrintableText, IsUtf8) {
  EXPECT_EQ(PrintableText("\xff é\xc2"), "\\xff é\\xc2");
  EXPECT_EQ(PrintableText("\xed\xa0\x80\n"), "\\xed\\xa0\\x80\\x0a");
}

}  // namespace
}  // namespace weightd
