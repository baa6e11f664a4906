#include "daemon/pipeline/small_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/source/checksum.h"
#include "daemon/source/source.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/memory_source.h"

namespace weightd::pipeline {
namespace {

using source::ChecksumKind;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr char kFolder[] = "http://host/m/";
constexpr int kAlways = 1000;

std::string At(absl::string_view name) { return absl::StrCat(kFolder, name); }

// A store that says of some objects that they have other sizes than theirs, and of its folder that
// it has other names in it.
class Liar : public fakes::MemorySource {
 public:
  absl::StatusOr<source::ObjectVersion> Stat(const Uri& uri, const source::ReadPolicy& policy,
                                             Cancellation& cancellation) override {
    auto version = MemorySource::Stat(uri, policy, cancellation);
    if (const auto lie = sizes.find(uri.ToString()); version.ok() && lie != sizes.end()) {
      version->size = lie->second;
    }
    return version;
  }
  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const source::ReadPolicy& policy,
                                                Cancellation& cancellation) override {
    return names.empty() ? MemorySource::List(folder, policy, cancellation) : names;
  }

  std::map<std::string, uint64_t> sizes;
  std::vector<std::string> names;
};

class DenyAll : public source::Denial {
 public:
  explicit DenyAll(std::string suffix) : suffix_(std::move(suffix)) {}
  bool Covers(absl::Span<const std::string> places) const override {
    return absl::c_any_of(
        places, [this](const std::string& place) { return absl::EndsWith(place, suffix_); });
  }

 private:
  const std::string suffix_;
};

class SmallFilesTest : public testing::Test {
 protected:
  SmallFilesTest() {
    host::HostTierOptions options;
    options.budget = 256 << 20;
    options.available_memory = []() -> absl::StatusOr<uint64_t> { return uint64_t{1} << 50; };
    tier_ = std::make_shared<host::HostTier>(std::move(options));
  }

  void Put(absl::string_view name, std::string text) { source_.Put(At(name), std::move(text)); }

  absl::StatusOr<std::vector<SmallFile>> Find(const KnownSmallFiles& known = {}) {
    return FindSmallFiles(source_, Uri::Parse(kFolder).value(), known, policy_, cancellation_);
  }
  // Fails the test if they can't be found.
  std::vector<SmallFile> Found(const KnownSmallFiles& known = {}) {
    auto found = Find(known);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *std::move(found) : std::vector<SmallFile>();
  }
  absl::StatusOr<std::shared_ptr<host::HostSegment>> Read(const std::vector<SmallFile>& files) {
    auto reservation = tier_->Reserve((TotalBytes(files) + 4095) / 4096 * 4096);
    EXPECT_TRUE(reservation.ok()) << reservation.status();
    return ReadSmallFiles(source_, files, "m files", *std::move(reservation), policy_, {},
                          cancellation_);
  }
  bool NothingHeld() const {
    const host::HostUsage usage = tier_->usage();
    return usage.loading + usage.resident + usage.draining == 0;
  }

  Liar source_;
  std::shared_ptr<host::HostTier> tier_;
  source::ReadPolicy policy_;
  Cancellation cancellation_;
};

std::vector<std::string> Names(const std::vector<SmallFile>& files) {
  std::vector<std::string> names;
  for (const SmallFile& small : files) {
    names.push_back(small.file.name);
  }
  return names;
}

const SmallFile& Named(const std::vector<SmallFile>& files, absl::string_view name) {
  return *absl::c_find_if(files,
                          [name](const SmallFile& small) { return small.file.name == name; });
}

std::string TextOf(const host::HostSegment& segment, const SmallFile& small) {
  return {reinterpret_cast<const char*>(segment.bytes().data()) + small.offset, small.bytes()};
}

TEST_F(SmallFilesTest, WellKnownNamesAloneAreFoundInTheirOrder) {
  for (const char* name : {"vocab.txt", "config.json", "README.md", "model.safetensors",
                           "notes.json", "sub/config.json", "tokenizer.json"}) {
    Put(name, name);
  }
  for (const bool can_list : {true, false}) {
    source_.SetCanList(can_list);
    EXPECT_THAT(Names(Found()), ElementsAre("config.json", "tokenizer.json", "vocab.txt"));
  }
}

TEST_F(SmallFilesTest, TheirNamesAreSortedAndStayInTheFolder) {
  const auto names = WellKnownSmallFiles();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  for (const absl::string_view name : names) {
    EXPECT_EQ(Uri::Parse(kFolder)->Child(name)->ToString(), At(name));
  }
}

TEST_F(SmallFilesTest, AListingSavesTheQuestions) {
  Put("config.json", "{}");
  Found();
  EXPECT_THAT(source_.stats(), ElementsAre(At("config.json")));
}

TEST_F(SmallFilesTest, WithoutAListingEachIsAskedForOnce) {
  source_.SetCanList(false);
  Put("config.json", "{}");
  Found();
  EXPECT_THAT(source_.stats(), SizeIs(WellKnownSmallFiles().size() - 1));
  EXPECT_THAT(source_.stats(), Not(Contains(At("1_Pooling/config.json"))));
}

TEST_F(SmallFilesTest, NamesOfAListingAreNotTrusted) {
  Put("config.json", "{}");
  source_.names = {"../config.json", "/etc/passwd", "config.json", "config.json", "a\nb", "",
                   "CONFIG.JSON",    "config.json/"};
  EXPECT_THAT(Names(Found()), ElementsAre("config.json"));
  EXPECT_THAT(source_.stats(), ElementsAre(At("config.json")));
}

TEST_F(SmallFilesTest, PoolingComesWithModulesOnly) {
  Put("1_Pooling/config.json", "{}");
  Put("vocab.txt", "a");
  EXPECT_THAT(Names(Found()), ElementsAre("vocab.txt"));
  Put("modules.json", "[]");
  for (const bool can_list : {true, false}) {
    source_.SetCanList(can_list);
    EXPECT_THAT(Names(Found()), ElementsAre("1_Pooling/config.json", "modules.json", "vocab.txt"));
  }
}

TEST_F(SmallFilesTest, KnownOnesAloneAreAskedForAgain) {
  Put("config.json", "{}");
  Put("vocab.txt", "a");
  EXPECT_THAT(Names(Found({{"config.json", "merges.txt"}})), ElementsAre("config.json"));
  EXPECT_THAT(source_.stats(), testing::UnorderedElementsAre(At("config.json"), At("merges.txt")));
  EXPECT_THAT(Names(Found({std::vector<std::string>()})), IsEmpty());
}

TEST_F(SmallFilesTest, NoneIsNoError) {
  for (const bool can_list : {true, false}) {
    source_.SetCanList(can_list);
    EXPECT_THAT(Names(Found()), IsEmpty());
  }
}

TEST_F(SmallFilesTest, WhatTheStoreDeniesIsLeftOut) {
  Put("config.json", "{}");
  Put("vocab.txt", "a");
  source_.FailStat(At("vocab.txt"), Error(Reason::kSourceDenied, "HTTP 403 secret"));
  for (const bool can_list : {true, false}) {
    source_.SetCanList(can_list);
    const auto files = Found();
    ASSERT_THAT(Names(files), ElementsAre("config.json", "vocab.txt"));
    EXPECT_THAT(files[1].left_out, AllOf(HasSubstr("is denied"), Not(HasSubstr("secret"))));
    EXPECT_EQ(files[1].bytes(), 0u);
    EXPECT_THAT(Names(Found({{"config.json", "vocab.txt"}})),
                ElementsAre("config.json", "vocab.txt"));
  }
}

// Stores say "denied" of what is missing where they may not list.
TEST_F(SmallFilesTest, AStoreThatDeniesAllThatItDoesNotGiveLacksThem) {
  Put("config.json", "{}");
  source_.SetCanList(false);
  for (const absl::string_view name : WellKnownSmallFiles()) {
    if (name != "config.json") {
      source_.FailStat(At(name), Error(Reason::kSourceDenied, "HTTP 403"));
    }
  }
  EXPECT_THAT(Names(Found()), ElementsAre("config.json"));
  EXPECT_TRUE(IsAbsent(Error(Reason::kModelNotFound, "gone")));
  EXPECT_FALSE(IsAbsent(Error(Reason::kSourceUnavailable, "down")));
  EXPECT_FALSE(IsAbsent(absl::OkStatus()));
}

TEST_F(SmallFilesTest, OtherFailuresFailTheModelAndNameTheFile) {
  Put("config.json", "{}");
  source_.FailStat(At("config.json"), Error(Reason::kSourceUnavailable, "HTTP 503"));
  const absl::Status status = Find().status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json: HTTP 503"));
}

TEST_F(SmallFilesTest, WhatLiesBeyondTheRootsIsLeftOut) {
  Put("config.json", "{}");
  Put("vocab.txt", "a");
  source_.FailStat(At("config.json"), Error(Reason::kAddressRefused, "it is /etc/shadow"));
  const auto files = Found();
  EXPECT_THAT(Names(files), ElementsAre("config.json", "vocab.txt"));
  EXPECT_THAT(files[0].left_out, AllOf(HasSubstr("may not read"), Not(HasSubstr("shadow"))));
  EXPECT_EQ(files[0].bytes(), 0u);
  EXPECT_THAT(files[1].left_out, IsEmpty());
}

TEST_F(SmallFilesTest, WithoutAStrongValidatorItIsLeftOutUnlessThatIsAllowed) {
  source_.PutUnpinned(At("config.json"), "{}");
  EXPECT_THAT(Found()[0].left_out, HasSubstr("no strong validator"));
  policy_.unpinned = true;
  EXPECT_THAT(Found()[0].left_out, IsEmpty());
}

TEST_F(SmallFilesTest, ThoseThatFitTogetherAreKeptByName) {
  for (const char* name : {"config.json", "merges.txt", "tokenizer.json", "vocab.txt"}) {
    Put(name, "1");
  }
  source_.sizes = {{At("config.json"), kMaxSmallFileBytes - 10},
                   {At("merges.txt"), 11},
                   {At("tokenizer.json"), 10},
                   {At("vocab.txt"), 1}};
  const auto files = Found();
  EXPECT_EQ(files[0].bytes(), kMaxSmallFileBytes - 10);
  EXPECT_EQ(files[1].left_out,
            "it has 11 bytes; a model's small files may have 67108864 together, and others have "
            "67108854 of them");
  EXPECT_EQ(files[2].offset, kMaxSmallFileBytes - 10);
  EXPECT_THAT(files[2].left_out, IsEmpty());
  EXPECT_THAT(files[3].left_out, HasSubstr("it has 1 bytes"));
  EXPECT_EQ(TotalBytes(files), kMaxSmallFileBytes);
}

TEST_F(SmallFilesTest, SizesThatNoFileHasTakeNothing) {
  for (const char* name : {"config.json", "merges.txt", "vocab.txt"}) {
    Put(name, "12345");
  }
  source_.sizes = {{At("config.json"), std::numeric_limits<uint64_t>::max()},
                   {At("vocab.txt"), std::numeric_limits<uint64_t>::max() - 4}};
  const auto files = Found();
  EXPECT_THAT(files[0].left_out, HasSubstr("18446744073709551615 bytes"));
  EXPECT_THAT(files[2].left_out, Not(IsEmpty()));
  EXPECT_EQ(TotalBytes(files), 5u);
  const auto segment = Read(files);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(TextOf(**segment, files[1]), "12345");
}

TEST_F(SmallFilesTest, ADeniedOneDeniesTheModelThereOrNot) {
  policy_.denied = std::make_shared<DenyAll>("/1_Pooling/config.json");
  EXPECT_EQ(Find().status(), source::NotAllowed());
  EXPECT_THAT(source_.stats(), IsEmpty());
  EXPECT_EQ(Find({{"1_Pooling/config.json"}}).status(), source::NotAllowed());
  EXPECT_TRUE(Find({{"config.json"}}).ok());
  policy_.denied = std::make_shared<DenyAll>("/README.md");
  EXPECT_TRUE(Find().ok()) << "nobody asks for that one";
}

// A redirect may lead to what is denied; which file did is nobody's business.
TEST_F(SmallFilesTest, WhatASourceDoesNotAllowIsNotNamed) {
  Put("config.json", "{}");
  source_.FailStat(At("config.json"), source::NotAllowed());
  EXPECT_EQ(Find().status(), source::NotAllowed());
}

TEST_F(SmallFilesTest, ACancelledSearchEnds) {
  cancellation_.Cancel(Error(Reason::kCancelled, "gone"));
  EXPECT_EQ(ReasonOf(Find().status()), Reason::kCancelled);
  EXPECT_EQ(ReasonOf(Find({{"config.json"}}).status()), Reason::kCancelled);
}

TEST_F(SmallFilesTest, BytesLieSealedWhereTheIndexSays) {
  const std::string large(5'000'000, 'x');
  const std::map<std::string, std::string> texts = {
      {"added_tokens.json", ""}, {"config.json", "{}"}, {"tokenizer.json", large}};
  for (const auto& [name, text] : texts) {
    Put(name, text);
  }
  const auto files = Found();
  auto segment = Read(files);
  ASSERT_TRUE(segment.ok()) << segment.status();
  for (const auto& [name, text] : texts) {
    EXPECT_TRUE(TextOf(**segment, Named(files, name)) == text) << name;
  }
  const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_EQ(fcntl((*segment)->OpenForClient("l")->get(), F_GET_SEALS) & seals, seals);
  EXPECT_EQ(tier_->usage().resident, (*segment)->charged_bytes());
  segment = absl::CancelledError();
  EXPECT_TRUE(NothingHeld());
}

TEST_F(SmallFilesTest, NoBytesAreNoSegment) {
  Put("added_tokens.json", "");
  source_.PutUnpinned(At("config.json"), "{}");
  const auto files = Found();
  EXPECT_THAT(Names(files), SizeIs(2));
  const auto segment = Read(files);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(*segment, nullptr);
  EXPECT_THAT(source_.reads(), IsEmpty());
}

TEST_F(SmallFilesTest, WhatIsLeftOutIsNotRead) {
  Put("config.json", "{}");
  source_.PutUnpinned(At("vocab.txt"), "a");
  ASSERT_TRUE(Read(Found()).ok());
  ASSERT_THAT(source_.reads(), SizeIs(1));
  EXPECT_EQ(source_.reads()[0].uri, At("config.json"));
}

TEST_F(SmallFilesTest, OneThatChangedMeanwhileIsNotTaken) {
  Put("config.json", "{}");
  Put("vocab.txt", "a");
  const auto files = Found();
  Put("vocab.txt", "b");
  EXPECT_EQ(ReasonOf(Read(files).status()), Reason::kSourceChanged);
  EXPECT_TRUE(NothingHeld());
}

TEST_F(SmallFilesTest, TheyAreWhatTheStoreSaysTheyAre) {
  const std::string text(100, 'x');
  for (const source::Checksum& checksum :
       {fakes::Whole(ChecksumKind::kSha256, text),
        fakes::InParts(ChecksumKind::kCrc32c, text, {40, 0, 60})}) {
    Put("config.json", text);
    Put("vocab.txt", "a");
    source_.SetChecksums(At("config.json"), {checksum});
    EXPECT_TRUE(Read(Found()).ok());
    source_.FlipBit(At("config.json"), 99, 1);
    EXPECT_TRUE(Read(Found()).ok()) << "it is read once more";
    source_.FlipBit(At("config.json"), 99, kAlways);
    const absl::Status status = Read(Found()).status();
    EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("config.json"), HasSubstr(NameOf(checksum.kind))));
    EXPECT_THAT(HintOf(status), Not(IsEmpty()));
    EXPECT_TRUE(NothingHeld());
    source_.FlipBit(At("config.json"), 99, 0);
  }
}

// Sums of sizes go round at 2^64.
TEST_F(SmallFilesTest, PartsThatNoFileHasAreRefused) {
  Put("config.json", "12345");
  for (const std::vector<uint64_t>& sizes :
       {std::vector<uint64_t>{4}, {6}, {std::numeric_limits<uint64_t>::max(), 6}}) {
    source::Checksum checksum = fakes::Whole(ChecksumKind::kSha256, "12345");
    checksum.part_sizes = sizes;
    source_.SetChecksums(At("config.json"), {checksum});
    EXPECT_EQ(ReasonOf(Read(Found()).status()), Reason::kSourceProtocol)
        << absl::StrJoin(sizes, " ");
  }
}

TEST_F(SmallFilesTest, ACancelledReadGivesItsMemoryBack) {
  Put("config.json", std::string(1 << 20, 'x'));
  const auto files = Found();
  cancellation_.Cancel(Error(Reason::kCancelled, "gone"));
  EXPECT_EQ(ReasonOf(Read(files).status()), Reason::kCancelled);
  EXPECT_TRUE(NothingHeld());
}

}  // namespace
}  // namespace weightd::pipeline
