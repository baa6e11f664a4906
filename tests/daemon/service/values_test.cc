#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/pipeline/model.h"
#include "daemon/service/convert.h"
#include "daemon/service/error_detail.h"
#include "daemon/service/model_names.h"
#include "daemon/service/paging.h"
#include "daemon/service/tensor_index_codec.h"
#include "daemon/service/user_shares.h"

namespace weightd::service {
namespace {

TEST(ErrorDetailTest, CarriesReasonHintAndRedactedModel) {
  const v1::ErrorDetail detail =
      ToErrorDetail(Error(Reason::kSourceDenied, "no entry", "ask for a key"),
                    "https://me:secret@store.example/a.safetensors?signature=secret");
  EXPECT_EQ(detail.reason(), v1::SOURCE_DENIED);
  EXPECT_EQ(detail.hint(), "ask for a key");
  EXPECT_EQ(detail.message(), "no entry");
  EXPECT_EQ(detail.model(), "https://store.example/a.safetensors");
}

TEST(PinsOfTest, TooManyAreRefused) {
  google::protobuf::Map<std::string, std::string> pins;
  for (size_t i = 0; i < kMostPins; ++i) {
    pins[absl::StrCat("f", i)] = std::string(64, 'a');
  }
  EXPECT_TRUE(PinsOf(pins).ok());
  pins["one more"] = std::string(64, 'a');
  EXPECT_EQ(ReasonOf(PinsOf(pins).status()), Reason::kInvalidArgument);
}

TEST(ErrorDetailTest, EveryReasonHasAHint) {
  for (int reason = v1::ErrorReason_MIN + 1; reason <= v1::ErrorReason_MAX; ++reason) {
    if (v1::ErrorReason_IsValid(reason)) {
      const absl::Status bare = Error(static_cast<Reason>(reason), "it went wrong");
      EXPECT_FALSE(ToErrorDetail(bare, "").hint().empty()) << reason;
    }
  }
}

TEST(ErrorDetailTest, RedactsWhatIsNoUri) {
  EXPECT_EQ(RedactedName("llama/base"), "llama/base");
  EXPECT_EQ(RedactedName("gopher://me:secret@host/a?key=secret"), "gopher://host/a");
  EXPECT_EQ(RedactedName("http://a:b@c@host/../x#secret"), "http://host/../x");
}

TEST(PagingTest, WalksAList) {
  const Page first = *PageOf(250, 0, "", "list");
  EXPECT_EQ(first.end, 100);
  const Page second = *PageOf(250, 0, first.next_token, "list");
  EXPECT_EQ(second.begin, 100);
  const Page last = *PageOf(250, 0, second.next_token, "list");
  EXPECT_EQ(last.end, 250);
  EXPECT_TRUE(last.next_token.empty());
}

TEST(PagingTest, LimitsThePageAndRefusesForeignTokens) {
  EXPECT_EQ(PageOf(5000, 4000, "", "")->end, 1000);
  EXPECT_FALSE(PageOf(10, 5, "other:5", "list").ok());
  EXPECT_FALSE(PageOf(10, 5, "list:x", "list").ok());
  EXPECT_FALSE(PageOf(10, 5, "list:-1", "list").ok());
  const Page beyond = *PageOf(3, 5, "list:7", "list");
  EXPECT_EQ(beyond.begin, beyond.end);
}

TEST(ModelNamesTest, ResolvesAliasesAndUris) {
  ModelNames names;
  ASSERT_TRUE(names.Set({{"b", "file:///models/x"}, {"a", "/models/x"}}).ok());
  EXPECT_FALSE(names.Set({{"a", "/models/x"}, {"a", "/models/y"}}).ok());
  EXPECT_FALSE(names.Set({{"c", "nowhere"}}).ok());
  EXPECT_EQ(names.Resolve("a")->ToString(), "file:///models/x");
  EXPECT_EQ(names.Resolve("http://H/z")->ToString(), "http://h/z");
  EXPECT_FALSE(names.Resolve("unknown").ok());
  EXPECT_EQ(names.AliasesOf(*names.Resolve("a")), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(names.Configured().size(), 1);
}

TEST(ModelNamesTest, OthersTakeTheirPlace) {
  ModelNames names;
  ASSERT_TRUE(names.Set({{"a", "/models/x"}, {"b", "/models/y"}}).ok());
  ASSERT_TRUE(names.Set({{"b", "/models/z"}}).ok());
  EXPECT_FALSE(names.Resolve("a").ok());
  EXPECT_EQ(names.Resolve("b")->path(), "/models/z");
  EXPECT_TRUE(names.AliasesOf(*Uri::Parse("/models/y")).empty());
}

TEST(PagingTest, APageOfLargeEntriesEndsEarly) {
  Page page = *PageOf(10, 10, "", "list");
  std::vector<size_t> added;
  AddEntries(page, "list", [&](size_t i) {
    added.push_back(i);
    return size_t{600} << 10;
  });
  EXPECT_EQ(added, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(PageOf(10, 10, page.next_token, "list")->begin, 2);
}

TEST(ModelNamesTest, RefusesOverlongNames) {
  const ModelNames names;
  const std::string prefix = "file:///";
  EXPECT_TRUE(names.Resolve(prefix + std::string(100, 'x')).ok());
  EXPECT_EQ(ReasonOf(names.Resolve(prefix + std::string(8192, 'x')).status()), Reason::kInvalidUri);
}

TEST(UserSharesTest, KeepsRoomForOtherUsers) {
  UserShares budget(8, UserShares::Users::kSeveral);
  EXPECT_TRUE(budget.TryTake(1, 2));
  EXPECT_TRUE(budget.TryTake(1, 2));
  EXPECT_FALSE(budget.TryTake(1, 2));
  EXPECT_TRUE(budget.TryTake(2, 2));
  EXPECT_TRUE(budget.TryTake(3, 2));
  EXPECT_FALSE(budget.TryTake(4, 1));
  budget.GiveBack(1, 2);
  EXPECT_TRUE(budget.TryTake(1, 2));
}

TEST(UserSharesTest, GivesAllToTheOnlyUser) {
  UserShares budget(3, UserShares::Users::kOne);
  EXPECT_TRUE(budget.TryTake(1, 3));
  EXPECT_FALSE(budget.TryTake(1, 1));
}

TEST(UserSharesTest, LeavesSomethingOfOne) {
  UserShares budget(1, UserShares::Users::kSeveral);
  EXPECT_TRUE(budget.TryTake(1, 1));
}

TEST(TensorIndexCodecTest, EncodesAHundredThousandTensors) {
  pipeline::ModelIndex index;
  index.uri = *Uri::Parse("http://user:secret@host/model/?key=secret");
  index.revision = RevisionId(std::string(64, 'a'));
  pipeline::ModelFile file;
  file.name = "one.safetensors";
  file.version.validator = "\"e\xFF\"";
  index.files = {file};
  index.metadata = {{"format", "pt"}};
  index.segment_bytes = 4096;
  index.device_bytes = 512;
  index.pinned_to_version = true;
  for (int i = 0; i < 100'000; ++i) {
    index.pieces.push_back({.name = "layer." + std::to_string(i),
                            .dtype = DType::kBf16,
                            .shape = {2, 3},
                            .offset = static_cast<uint64_t>(i) * 12,
                            .device_offset = static_cast<uint64_t>(i) * 256,
                            .nbytes = 12,
                            .file = 0});
  }

  v1::TensorIndex decoded;
  ASSERT_TRUE(decoded.ParseFromString(EncodeTensorIndex(index)));
  EXPECT_EQ(decoded.version(), kTensorIndexVersion);
  EXPECT_EQ(decoded.revision(), index.revision.hex());
  EXPECT_EQ(decoded.model(), "http://host/model/");
  EXPECT_EQ(decoded.layout().name(), "as-stored");
  ASSERT_EQ(decoded.layout().pieces_size(), 100'000);
  const v1::TensorPiece& last = decoded.layout().pieces(99'999);
  EXPECT_EQ(last.name(), "layer.99999");
  EXPECT_EQ(last.dtype(), v1::BF16);
  EXPECT_EQ(last.shape_size(), 2);
  EXPECT_EQ(last.offset(), 99'999 * 12);
  EXPECT_EQ(last.device_offset(), 99'999 * 256);
  EXPECT_EQ(last.nbytes(), 12);
  EXPECT_EQ(decoded.files(0).validator(), "\"e?\"");
  EXPECT_EQ(decoded.metadata().at("format"), "pt");
  EXPECT_TRUE(decoded.verification().pinned_to_version());
  EXPECT_EQ(decoded.segment_bytes(), 4096);
  EXPECT_EQ(decoded.device_bytes(), 512);
}

TEST(TensorIndexTest, SmallFilesAreKeptWithAPlaceOrLeftOutWithAReason) {
  pipeline::ModelIndex index;
  pipeline::SmallFile kept = {.file = {.name = "config.json", .version = {}}, .offset = 12};
  kept.file.version.size = 7;
  // Reasons may hold what a store or a file system says.
  pipeline::SmallFile left_out = {
      .file = {.name = "tokenizer.json", .version = {}}, .offset = 19, .left_out = "too large\xFF"};
  left_out.file.version.size = uint64_t{1} << 63;
  index.small_files = {kept, left_out};

  v1::TensorIndex decoded;
  ASSERT_TRUE(decoded.ParseFromString(EncodeTensorIndex(index)));
  ASSERT_EQ(decoded.small_files_size(), 2);
  EXPECT_EQ(decoded.small_files(0).name(), "config.json");
  EXPECT_EQ(decoded.small_files(0).offset(), 12);
  EXPECT_EQ(decoded.small_files(0).nbytes(), 7);
  EXPECT_EQ(decoded.small_files(0).left_out(), "");
  EXPECT_EQ(decoded.small_files(1).name(), "tokenizer.json");
  EXPECT_EQ(decoded.small_files(1).offset(), 0);
  EXPECT_EQ(decoded.small_files(1).nbytes(), 0);
  EXPECT_EQ(decoded.small_files(1).left_out(), "too large?");
  EXPECT_EQ(decoded.files_size(), 0);
}

}  // namespace
}  // namespace weightd::service
