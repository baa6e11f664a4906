// Lies in how it is said: connections, heads, lengths, statuses.

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/daemon/source/lying_server/lies.h"
#include "tests/servers/loopback_server.h"

namespace weightd::source {
namespace {

using End = WireAnswer::End;

// Somewhere in the answer, the end of the connection included.
void CutAnywhere(WireAnswer& answer, Dice& dice, End end) {
  const size_t head = answer.Head().size() + 2;
  answer.most_bytes = dice.Chance(40) ? dice.Below(head) : dice.Below(head + answer.body.size());
  answer.end = end;
}

void Cut(WireAnswer& answer, Dice& dice) { CutAnywhere(answer, dice, End::kClosed); }
void ResetConnection(WireAnswer& answer, Dice& dice) { CutAnywhere(answer, dice, End::kReset); }
void Silence(WireAnswer& answer, Dice& dice) { CutAnywhere(answer, dice, End::kSilent); }

void OnlyAHead(WireAnswer& answer, Dice& dice) {
  answer.most_bytes = answer.Head().size() + 2;
  answer.end = dice.OneOf({End::kClosed, End::kReset});
}

// Now and then a few bytes: at first, or for ever.
void Drip(WireAnswer& answer, Dice& dice) {
  const bool for_ever = dice.Chance(40);
  answer.pause = absl::Milliseconds(for_ever ? 20 : 2);
  answer.step = for_ever ? 1 : 64 + dice.Below(64);
  answer.slow_bytes = for_ever ? SIZE_MAX : 1 + dice.Below(2000);
}

// What is kept alive gets more bytes than the answer's: the head and the body of another.
void PoisonedConnection(WireAnswer& answer, Dice& dice) {
  WireAnswer poison = answer;
  const ByteRange range = answer.asked.WantedRange();
  poison.body = answer.asked.newer->substr(range.begin, answer.body.size());
  if (dice.Chance(30)) {
    poison.status_line = "HTTP/1.1 200 OK";
    poison.Set("Content-Range", "");
    poison.SetBody(*answer.asked.newer);
  } else if (dice.Chance(30)) {
    poison.Become(dice.OneOf({302, 404, 500}), "inner words");
  }
  answer.after = poison.Bytes();
  if (dice.Chance(30)) {
    // A few bytes of it now, the rest, perhaps, under the next request.
    answer.after.resize(1 + dice.Below(answer.after.size()));
  }
}

void Http10(WireAnswer& answer, Dice& dice) {
  answer.status_line = absl::StrReplaceAll(answer.status_line, {{"HTTP/1.1", "HTTP/1.0"}});
  if (dice.Chance(50)) {
    answer.Set("Content-Length", "");
    answer.end = End::kClosed;
  }
}

void NoHttp(WireAnswer& answer, Dice& dice) {
  const std::string rest = answer.Bytes().substr(answer.status_line.size());
  answer.raw = dice.OneOf<std::string>(
      {dice.Garbage(1 + dice.Below(5000)), "SSH-2.0-OpenSSH_9.2\r\n", answer.body,
       absl::StrCat("HTTP/1.1 abc Said", rest), absl::StrCat("HTTP/1.1 000 Said", rest),
       absl::StrCat("HTTP/1.1 99999 Said", rest), absl::StrCat("HTTP/1.1  206", rest),
       absl::StrCat("HTTP/2 206", rest), absl::StrCat("ICY 200 OK", rest),
       absl::StrCat("HTTP/1.1 206", std::string(100'000, ' '), rest),
       std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "\r\n\r\n", std::string(300, '\0')});
  answer.end = dice.OneOf({End::kClosed, End::kReset});
}

void OddStatus(WireAnswer& answer, Dice& dice) {
  const int status = dice.OneOf({202, 203, 204, 205, 207, 226, 299, 300, 304, 305, 306, 400, 402,
                                 405, 406, 411, 414, 418, 431, 451, 499, 501, 505, 600, 777, 999});
  if (dice.Chance(50)) {
    answer.status_line = absl::StrCat("HTTP/1.1 ", status, " Said");
  } else {
    answer.Become(status, "inner words");
  }
}

void NotModified(WireAnswer& answer, Dice& dice) {
  answer.status_line = "HTTP/1.1 304 Not Modified";
  if (dice.Chance(50)) {
    answer.body.clear();
  }
}

void Overloaded(WireAnswer& answer, Dice& dice) {
  answer.Become(dice.OneOf({429, 500, 502, 503, 504, 408}), "inner words");
  answer.Set("Retry-After", dice.OneOf<std::string>({"", "0", "-1", "soon", "99999999999999999999",
                                                     "0.1", "Sat, 01 Jan 2050 00:00:00 GMT"}));
}

void Denied(WireAnswer& answer, Dice& dice) {
  answer.Become(dice.OneOf({401, 403, 407}), "inner words");
  answer.Set("WWW-Authenticate", dice.OneOf<std::string>({"", "Basic realm=x", "Negotiate", "x"}));
}

void Redirect(WireAnswer& answer, Dice& dice) {
  const Asked asked = answer.asked;
  answer.Become(dice.OneOf({301, 302, 303, 307, 308}), dice.Chance(50) ? "" : "inner words");
  const std::string beside = absl::StrCat("http://", asked.elsewhere, asked.target);
  const std::string itself = absl::StrCat("http://", asked.here, asked.target);
  answer.Set("Location",
             dice.OneOf<std::string>(
                 {beside, absl::StrCat("//", asked.elsewhere, asked.target), itself,
                  absl::StrCat("http://other:hush@", asked.elsewhere, asked.target),
                  absl::StrCat("http://localhost", beside.substr(beside.rfind(':')), "#"),
                  absl::StrCat(itself, "x/../nothing"), "file:///etc/passwd", "gopher://127.0.0.1/",
                  "http://127.0.0.1:1/m", "http://", "", "ftp://127.0.0.1/m", "http://[::1", "\x01",
                  std::string(20'000, 'a'), "http://user@127.0.0.1:0/"}));
}

void TwoLengths(WireAnswer& answer, Dice& dice) {
  const size_t length = answer.body.size();
  answer.Add(dice.OneOf<std::string>({"Content-Length", "content-length", "CONTENT-LENGTH"}),
             dice.OneOf<std::string>({absl::StrCat(length + 1), absl::StrCat(length),
                                      absl::StrCat(length, ", ", length), "0", "x",
                                      absl::StrCat(length / 2)}));
}

void ImpossibleLength(WireAnswer& answer, Dice& dice) {
  answer.Set("Content-Length",
             dice.OneOf<std::string>({"-1", "18446744073709551616", "9223372036854775808",
                                      "1000000000000000000000000000000", "0x10", " ", "+5", "1e3",
                                      "4 4", "", "1152921504606846976"}));
  answer.end = End::kClosed;
}

void ChunkedNonsense(WireAnswer& answer, Dice& dice) {
  const std::string size = absl::StrCat(absl::Hex(answer.body.size()));
  const std::string last = "\r\n0\r\n\r\n";
  answer.Set("Transfer-Encoding", dice.OneOf<std::string>({"chunked", "chunked", "chunked, chunked",
                                                           "gzip, chunked", "chunky"}));
  if (dice.Chance(70)) {
    answer.Set("Content-Length", "");
  }
  answer.end = dice.OneOf({End::kKept, End::kClosed, End::kReset});
  const std::string body = std::move(answer.body);
  switch (dice.Below(9)) {
    case 0:
      answer.body = absl::StrCat("zz\r\n", body, last);
      break;
    case 1:
      answer.body = absl::StrCat("-1\r\n", body, last);
      break;
    case 2:
      answer.body = absl::StrCat("ffffffffffffffffff\r\n", body, last);
      break;
    case 3:  // shorter than it says
      answer.body = absl::StrCat(size, "0\r\n", body, last);
      answer.end = End::kClosed;
      break;
    case 4:  // no last chunk
      answer.body = absl::StrCat(size, "\r\n", body);
      answer.end = End::kClosed;
      break;
    case 5:  // longer than it says
      answer.body = absl::StrCat("1\r\n", body, last);
      break;
    case 6:  // no chunks at all
      answer.body = body;
      answer.end = End::kClosed;
      break;
    case 7:  // trailers without an end
      answer.body = absl::StrCat(size, "\r\n", body, "\r\n0\r\n");
      answer.endless = absl::StrCat("X-More: ", std::string(1000, 'x'), "\r\n");
      break;
    default:  // right, but for what stands beside it
      answer.body = absl::StrCat(size, ";", std::string(1 + dice.Below(5000), 'e'), "\r\n", body,
                                 "\r\n0\r\nContent-Length: 1\r\nETag: \"v9\"\r\n\r\n");
  }
}

void ManyHeaders(WireAnswer& answer, Dice& dice) {
  const bool endless = dice.Chance(30);
  const uint64_t count = endless ? 10 : 1 + dice.Below(dice.Chance(50) ? 100 : 20'000);
  for (uint64_t i = 0; i < count; ++i) {
    answer.Add(absl::StrCat("X-", i), "filler");
  }
  if (endless) {
    answer.raw = answer.Head();
    answer.endless = absl::StrCat("X-Again: ", std::string(1000, 'x'), "\r\n");
  }
}

void LongHeader(WireAnswer& answer, Dice& dice) {
  const size_t bytes = 1 + dice.Below(dice.Chance(50) ? 5000 : 2 << 20);
  const std::string name =
      dice.OneOf<std::string>({"X-Long", "ETag", "Content-Range", "Content-Length", "Location"});
  answer.Set(name, absl::StrCat(answer.Get(name), std::string(bytes, 'x')));
}

void InformsForEver(WireAnswer& answer, Dice& dice) {
  const std::string once =
      absl::StrCat("HTTP/1.1 ", dice.OneOf({100, 102, 103, 199}), " Wait\r\n",
                   dice.OneOf<std::string>({"", "ETag: \"v9\"\r\n", "Content-Length: 7\r\n",
                                            "Content-Range: bytes 0-0/1\r\n"}),
                   "\r\n");
  if (dice.Chance(30)) {
    answer.raw = once;
    answer.endless = once;
    return;
  }
  const uint64_t count = 1 + dice.Below(dice.Chance(50) ? 10 : 10'000);
  for (uint64_t i = 0; i < count; ++i) {
    answer.before += once;
  }
}

// An error, a redirect or a part whose body has no end.
void EndlessBody(WireAnswer& answer, Dice& dice) {
  if (dice.Chance(70)) {
    answer.status_line = absl::StrCat("HTTP/1.1 ", dice.OneOf({302, 400, 403, 404, 500}), " ");
  }
  answer.Set("Content-Length", "");
  if (dice.Chance(50)) {
    answer.Set("Transfer-Encoding", "chunked");
    answer.body = absl::StrCat(absl::Hex(answer.body.size()), "\r\n", answer.body, "\r\n");
    answer.endless = absl::StrCat("1000\r\n", std::string(0x1000, 'w'), "\r\n");
  } else {
    answer.endless = std::string(0x1000, 'w');
  }
}

// What a server says who speaks no TLS, or not for long.
void NoTls(int connection, Dice& dice) {
  std::string hello;
  if (!ReceiveUntil(connection, 1 + dice.Below(200), hello)) {
    return;
  }
  const std::string record = std::string("\x16\x03\x03", 3);
  SendAll(connection,
          dice.OneOf<std::string>({"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                                   dice.Garbage(1 + dice.Below(1000)), hello,
                                   record + dice.Garbage(1 + dice.Below(1000)),
                                   // A fatal alert: handshake failure.
                                   std::string("\x15\x03\x03\x00\x02\x02\x28", 7),
                                   record + std::string("\x00\x04\x02\x00\x00\x26", 6)}));
  if (dice.Chance(20)) {
    AwaitEnd(connection);
  } else if (dice.Chance(30)) {
    Reset(connection);
  }
}

}  // namespace

std::vector<Lie> LiesAboutHttp() {
  constexpr Reason kProtocol = Reason::kSourceProtocol;
  constexpr Reason kChanged = Reason::kSourceChanged;
  constexpr Reason kUnavailable = Reason::kSourceUnavailable;
  constexpr Reason kDenied = Reason::kSourceDenied;
  constexpr Reason kNotFound = Reason::kModelNotFound;
  return {
      {.name = "Cut", .reasons = {kUnavailable}, .tell = Cut},
      {.name = "Reset", .reasons = {kUnavailable}, .tell = ResetConnection},
      {.name = "Silence", .reasons = {kUnavailable}, .tell = Silence, .stalls = true},
      {.name = "OnlyAHead", .reasons = {kUnavailable}, .tell = OnlyAHead},
      {.name = "Drip", .reasons = {kUnavailable}, .tell = Drip, .stalls = true},
      {.name = "PoisonedConnection",
       .reasons = {kProtocol, kUnavailable, kChanged, kNotFound},
       .tell = PoisonedConnection},
      {.name = "Http10", .reasons = {}, .tell = Http10},
      {.name = "NoHttp", .reasons = {kProtocol, kUnavailable}, .tell = NoHttp, .stalls = true},
      {.name = "OddStatus", .reasons = {kProtocol}, .tell = OddStatus, .stalls = true},
      {.name = "NotModified", .reasons = {kProtocol}, .tell = NotModified},
      {.name = "Overloaded", .reasons = {kUnavailable}, .tell = Overloaded},
      {.name = "Denied", .reasons = {kDenied}, .tell = Denied},
      {.name = "Redirect",
       .reasons = {kProtocol, kNotFound, kUnavailable, Reason::kInvalidUri},
       .tell = Redirect},
      {.name = "TwoLengths", .reasons = {kProtocol}, .tell = TwoLengths, .stalls = true},
      {.name = "ImpossibleLength", .reasons = {kProtocol, kUnavailable}, .tell = ImpossibleLength},
      {.name = "ChunkedNonsense",
       .reasons = {kProtocol, kUnavailable},
       .tell = ChunkedNonsense,
       .stalls = true},
      {.name = "ManyHeaders", .reasons = {kProtocol}, .tell = ManyHeaders},
      {.name = "LongHeader", .reasons = {kProtocol, kChanged}, .tell = LongHeader},
      {.name = "InformsForEver", .reasons = {kProtocol}, .tell = InformsForEver},
      {.name = "EndlessBody",
       .reasons = {kProtocol, kUnavailable, kDenied, kNotFound, kChanged},
       .tell = EndlessBody},
      {.name = "NoTls",
       .reasons = {kUnavailable, kProtocol},
       .stalls = true,
       .never_right = true,
       .greet = NoTls},
  };
}

}  // namespace weightd::source
