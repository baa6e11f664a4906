// Lies about the bytes: how many, which, of what version.

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/daemon/source/lying_server/lies.h"

namespace weightd::source {
namespace {

constexpr char kLater[] = "Sun, 02 Jan 2000 00:00:00 GMT";

std::string RangeText(ByteRange range, uint64_t total) {
  return absl::StrCat("bytes ", range.begin, "-", range.end - 1, "/", total);
}

// The same place in the other version.
void BodyOfNewer(WireAnswer& answer) {
  const ByteRange range = answer.asked.WantedRange();
  answer.body = answer.asked.newer->substr(range.begin, answer.body.size());
}

// Announces all and sends less.
void Short(WireAnswer& answer, Dice& dice) {
  const size_t head = answer.Head().size() + 2;
  answer.most_bytes = head + dice.Below(std::max<size_t>(answer.body.size(), 1));
  answer.end = WireAnswer::End::kClosed;
}

// Sends more than it announces, or than was asked for.
void Long(WireAnswer& answer, Dice& dice) {
  const std::string more = dice.Garbage(1 + dice.Below(dice.Chance(50) ? 16 : 100'000));
  if (dice.Chance(50)) {
    answer.after = more;
  } else {
    answer.SetBody(answer.body + more);
  }
}

void WrongContentRange(WireAnswer& answer, Dice& dice) {
  const ByteRange range = answer.asked.WantedRange();
  const uint64_t total = answer.asked.object->size();
  const uint64_t shift = 1 + dice.Below(100);
  answer.Set(
      "Content-Range",
      dice.OneOf<std::string>({RangeText({range.begin + shift, range.end + shift}, total),
                               RangeText({range.begin, range.end + shift}, total),
                               absl::StrCat("bytes ", range.end, "-", range.begin, "/", total),
                               absl::StrCat("bytes */", total),
                               absl::StrCat("bytes ", range.begin, "-", range.end - 1, "/*"),
                               absl::StrCat("bytes -1-", range.end - 1, "/", total),
                               absl::StrCat("octets 0-", range.end - 1, "/", total),
                               absl::StrCat("bytes ", range.begin, "-99999999999999999999/", total),
                               "bytes", "", "\t", "bytes 0x0-0x1/0x2"}));
}

void WholeForAPart(WireAnswer& answer, Dice& dice) {
  answer.status_line = "HTTP/1.1 200 OK";
  answer.Set("Content-Range", "");
  if (dice.Chance(70)) {
    answer.SetBody(*answer.asked.object);
  }
}

void PartForTheWhole(WireAnswer& answer, Dice& dice) {
  const uint64_t size = answer.asked.object->size();
  const uint64_t begin = dice.Below(size);
  answer.SetPart(*answer.asked.object, {begin, begin + 1 + dice.Below(size - begin)});
}

void Encoded(WireAnswer& answer, Dice& dice) {
  answer.Set("Content-Encoding", dice.OneOf<std::string>({"gzip", "br", "deflate", "identity, gzip",
                                                          "x-none", "compress"}));
  if (dice.Chance(50)) {
    answer.SetBody("\x1f\x8b" + dice.Garbage(answer.body.size() / 2));
  }
}

void AnotherETag(WireAnswer& answer, Dice& dice) {
  answer.Set("ETag", dice.OneOf<std::string>({"\"v2\"", "\"v1 \"", "\"V1\"", "\"\"", "v1"}));
  BodyOfNewer(answer);
}

void NoProofOfVersion(WireAnswer& answer, Dice& dice) {
  answer.Set("ETag", dice.OneOf<std::string>(
                         {"", "W/\"v1\"", "*", "\x01\x02", "\"v\x7f\"", std::string(5000, 'e')}));
  BodyOfNewer(answer);
}

void AnotherLastModified(WireAnswer& answer, Dice& dice) {
  answer.Set("Last-Modified", dice.OneOf<std::string>({kLater, "yesterday", ""}));
  BodyOfNewer(answer);
}

void AnotherTotal(WireAnswer& answer, Dice& dice) {
  const uint64_t total = answer.asked.object->size();
  const uint64_t lie =
      dice.OneOf<uint64_t>({total + 1, total + 4096, total - 1, total * 2, uint64_t{1} << 40,
                            uint64_t{1} << 62, std::numeric_limits<uint64_t>::max()});
  const ByteRange range = answer.asked.WantedRange();
  if (range.end <= lie) {
    answer.Set("Content-Range", RangeText(range, lie));
  }
}

void OverlappingPart(WireAnswer& answer, Dice& dice) {
  const ByteRange range = answer.asked.WantedRange();
  const uint64_t size = answer.asked.object->size();
  const ByteRange part = {range.begin - dice.Below(std::min<uint64_t>(range.begin, 5000) + 1),
                          std::min(size, range.end + dice.Below(5000))};
  answer.SetPart(*answer.asked.object, part);
}

void AnotherPart(WireAnswer& answer, Dice& dice) {
  const uint64_t size = answer.asked.object->size();
  const uint64_t bytes = std::min<uint64_t>(answer.asked.WantedRange().size(), size);
  const uint64_t begin = dice.Below(size - bytes + 1);
  answer.SetPart(*answer.asked.object, {begin, begin + bytes});
}

void SeveralParts(WireAnswer& answer, Dice& dice) {
  const std::string range = answer.Get("Content-Range");
  answer.Set("Content-Type", "multipart/byteranges; boundary=cut");
  answer.Set("Content-Range", dice.Chance(50) ? "" : range);
  answer.SetBody(
      absl::StrCat("--cut\r\nContent-Range: ", range, "\r\n\r\n", answer.body, "\r\n--cut--\r\n"));
}

void NoSuchRange(WireAnswer& answer, Dice& dice) {
  const uint64_t size = answer.asked.object->size();
  answer.Become(416, "");
  answer.Set("Content-Range",
             absl::StrCat("bytes */", dice.OneOf<uint64_t>({0, 1, size, size * 2})));
}

}  // namespace

std::vector<Lie> LiesAboutBytes() {
  constexpr Reason kProtocol = Reason::kSourceProtocol;
  constexpr Reason kChanged = Reason::kSourceChanged;
  constexpr Reason kUnavailable = Reason::kSourceUnavailable;
  constexpr Reason kMalformed = Reason::kMalformedModel;
  return {
      {.name = "Short", .reasons = {kUnavailable}, .tell = Short},
      {.name = "Long", .reasons = {kProtocol, kUnavailable}, .tell = Long},
      {.name = "WrongContentRange", .reasons = {kProtocol}, .tell = WrongContentRange},
      {.name = "WholeForAPart", .reasons = {kProtocol, kChanged}, .tell = WholeForAPart},
      {.name = "PartForTheWhole", .reasons = {kProtocol, kChanged}, .tell = PartForTheWhole},
      {.name = "Encoded", .reasons = {kProtocol}, .tell = Encoded},
      {.name = "AnotherETag", .reasons = {kChanged, Reason::kNotAllowed}, .tell = AnotherETag},
      {.name = "NoProofOfVersion",
       .reasons = {kChanged, Reason::kNotAllowed, kProtocol},
       .tell = NoProofOfVersion},
      {.name = "AnotherLastModified", .reasons = {kChanged}, .tell = AnotherLastModified},
      {.name = "AnotherTotal", .reasons = {kChanged, kMalformed, kProtocol}, .tell = AnotherTotal},
      {.name = "OverlappingPart", .reasons = {kProtocol}, .tell = OverlappingPart},
      {.name = "AnotherPart", .reasons = {kProtocol}, .tell = AnotherPart},
      {.name = "SeveralParts", .reasons = {kProtocol}, .tell = SeveralParts},
      {.name = "NoSuchRange", .reasons = {kChanged}, .tell = NoSuchRange},
  };
}

}  // namespace weightd::source
