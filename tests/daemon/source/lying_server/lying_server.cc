#include "tests/daemon/source/lying_server/lying_server.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/source/checksum.h"

namespace weightd::source {
namespace {

// The value of a field of a request's head; empty if it has none.
absl::string_view FieldOf(absl::string_view head, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(head, "\r\n")) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(line, absl::MaxSplits(": ", 1));
    if (absl::EqualsIgnoreCase(field.first, name)) {
      return field.second;
    }
  }
  return "";
}

std::optional<ByteRange> RangeOf(absl::string_view head) {
  ByteRange range;
  const std::vector<std::string> ends =
      absl::StrSplit(FieldOf(head, "Range"), absl::ByAnyChar("=-"));
  if (ends.size() != 3 || !absl::SimpleAtoi(ends[1], &range.begin) ||
      !absl::SimpleAtoi(ends[2], &range.end)) {
    return std::nullopt;
  }
  ++range.end;
  return range;
}

// A load asks for a listing, and for each file's checksums, once.
bool IsAskedOnce(Lie::About about) {
  return about == Lie::About::kListing || about == Lie::About::kChecksums;
}

}  // namespace

LyingServer::LyingServer(const Lie& lie, uint64_t seed, const Files& files, const Files& newer)
    : lie_(lie),
      seed_(seed),
      files_(files),
      newer_(newer),
      when_(Dice(seed).OneOf({When::kOnce, When::kFromThenOn, When::kNowAndThen})),
      first_(IsAskedOnce(lie.about) ? 0 : Dice(seed + 1).Below(4)),
      elsewhere_([this](int connection) { Serve(connection, /*lies=*/false); }),
      server_([this](int connection) { Serve(connection, /*lies=*/true); }) {}

void LyingServer::Serve(int connection, bool lies) {
  if (lies && lie_.greet != nullptr) {
    Dice dice(seed_ + ++lies_);
    lie_.greet(connection, dice);
    return;
  }
  std::string received;
  while (const std::optional<std::string> request = TakeHead(connection, received)) {
    bool may_be_lied = false;
    WireAnswer answer = RightAnswer(*request, &may_be_lied);
    if (!lies) {
      leaked_ = leaked_ || !FieldOf(*request, "Authorization").empty();
    } else if (may_be_lied) {
      const uint64_t number = answers_++;
      if (ShallLie(number)) {
        ++lies_;
        Dice dice(seed_ * 1000 + number);
        lie_.tell(answer, dice);
      }
    }
    if (!Send(connection, answer)) {
      return;
    }
  }
}

bool LyingServer::ShallLie(uint64_t number) const {
  switch (when_) {
    case When::kOnce:
      return number == first_;
    case When::kFromThenOn:
      return number >= first_;
    case When::kNowAndThen:
      return number == first_ || Dice(seed_ * 7919 + number).Chance(30);
  }
  return false;
}

WireAnswer LyingServer::RightAnswer(const std::string& request, bool* may_be_lied) const {
  const std::vector<std::string> words = absl::StrSplit(request, absl::MaxSplits(' ', 2));
  const std::string& target = words.size() > 1 ? words[1] : words[0];
  if (absl::StrContains(target, "list-type=2")) {
    *may_be_lied = lie_.about == Lie::About::kListing;
    return Listing();
  }
  const std::string path = target.substr(0, target.find('?'));
  const bool asks_for_head = words[0] == "HEAD";
  const auto file = files_.find(path.substr(path.rfind('/') + 1));
  if (file == files_.end()) {
    WireAnswer answer;
    answer.Become(404, "<Error><Code>NoSuchKey</Code></Error>");
    return answer;
  }
  *may_be_lied =
      lie_.about != Lie::About::kListing && asks_for_head == (lie_.about == Lie::About::kChecksums);
  WireAnswer answer = WireAnswer::Right({.object = &file->second,
                                         .newer = &newer_.at(file->first),
                                         .range = RangeOf(request),
                                         .target = target,
                                         .elsewhere = absl::StrCat("127.0.0.1:", elsewhere_.port()),
                                         .here = absl::StrCat("127.0.0.1:", server_.port())});
  if (asks_for_head) {
    answer.body.clear();
  }
  if (asks_for_head && lie_.checksums) {
    const ChecksumKind kind = Dice(seed_).OneOf({ChecksumKind::kCrc32, ChecksumKind::kCrc32c,
                                                 ChecksumKind::kCrc64Nvme, ChecksumKind::kSha256});
    answer.Set(absl::StrCat("x-amz-checksum-", NameOf(kind)),
               ToS3({.kind = kind, .value = HashOf(kind, file->second), .part_sizes = {}}));
    answer.Set("x-amz-checksum-type", "FULL_OBJECT");
  }
  return answer;
}

WireAnswer LyingServer::Listing() const {
  std::string text =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>bucket</Name>"
      "<IsTruncated>false</IsTruncated>";
  for (const auto& [name, bytes] : files_) {
    absl::StrAppend(&text, "<Contents><Key>m/", name, "</Key><Size>", bytes.size(),
                    "</Size><ETag>&quot;v1&quot;</ETag></Contents>");
  }
  WireAnswer answer;
  answer.Become(200, absl::StrCat(text, "</ListBucketResult>"));
  return answer;
}

}  // namespace weightd::source
