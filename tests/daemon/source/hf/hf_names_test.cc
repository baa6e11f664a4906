#include "daemon/source/hf/hf_names.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/hf/hf_api.h"

namespace weightd::source {
namespace {

const std::string kCommit(40, 'c');

TEST(HfUri, IsNormalised) {
  for (const auto& [written, normal] : std::vector<std::pair<std::string, std::string>>{
           {"HF://Org/Name", "hf://Org/Name@main/"},
           {"hf://o/n@v1.0", "hf://o/n@v1.0/"},
           {"hf://o/n/a//b%41", "hf://o/n@main/a/bA"},
           {"hf://o/n@refs%2fpr%2F1", "hf://o/n@refs%2Fpr%2F1/"},
           {"hf://o//./n@feature%2Fx/a", "hf://o/n@feature%2Fx/a"}}) {
    const absl::StatusOr<Uri> uri = Uri::Parse(written);
    ASSERT_TRUE(uri.ok()) << written;
    EXPECT_EQ(uri->ToString(), normal);
    EXPECT_EQ(*Uri::Parse(normal), *uri);
  }
}

TEST(HfUri, RefusesWhatNoHubHas) {
  for (const char* uri : {"hf://o",
                          "hf:///n",
                          "hf://o/n@",
                          "hf://o/n@refs/pr/1",
                          "hf://o/a--b",
                          "hf://-o/n",
                          "hf://o/n.git",
                          "hf://o/n@a..b",
                          "hf://o/n@main/../x",
                          "hf://u:p@o/n",
                          "hf://o:80/n",
                          "hf://o/n?q",
                          "hf://o/n%2Fx",
                          "hf://o/n@main/a%2f..%2fb",
                          "hf://o/n@main/a%2Fb",
                          "hf://o/n@a%2F",
                          "hf://o/n@%2Fa",
                          "hf://o/n@a%2F%2Fb",
                          "hf://o/n@a%2F.b",
                          "hf://o/n@a%2F..%2Fb",
                          "hf://o/n@a.lock%2Fb",
                          "hf://o/n@a%5Cb",
                          "hf://o/n@a%20b",
                          "hf://o/n@a%252Fb",
                          "hf://o%2Fx/n"}) {
    EXPECT_EQ(ReasonOf(Uri::Parse(uri).status()), Reason::kInvalidUri) << uri;
  }
}

TEST(HfName, IsTakenApartAndPinned) {
  const Uri uri = *Uri::Parse("hf://o/n@v1/a b/m.safetensors");
  const HfName name = ParseHfName(uri);
  EXPECT_EQ(name.organisation + "|" + name.repository + "|" + name.revision, "o|n|v1");
  EXPECT_EQ(name.file, "a b/m.safetensors");
  EXPECT_FALSE(name.IsFolder());
  EXPECT_TRUE(ParseHfName(*Uri::Parse("hf://o/n")).IsFolder());
  EXPECT_EQ(PinnedTo(uri, kCommit)->ToString(),
            absl::StrCat("hf://o/n@", kCommit, "/a%20b/m.safetensors"));
}

TEST(HfName, MayHaveARevisionWithSlashes) {
  const Uri uri = *Uri::Parse("hf://o/n@refs%2Fpr%2F1/a b/m%25.safetensors");
  const HfName name = ParseHfName(uri);
  EXPECT_EQ(name.repository, "n");
  EXPECT_EQ(name.revision, "refs/pr/1");
  EXPECT_EQ(name.encoded_revision, "refs%2Fpr%2F1");
  EXPECT_EQ(name.file, "a b/m%.safetensors");
  EXPECT_EQ(name.encoded_file, "a%20b/m%25.safetensors");
  EXPECT_EQ(PinnedTo(uri, kCommit)->ToString(),
            absl::StrCat("hf://o/n@", kCommit, "/a%20b/m%25.safetensors"));
  EXPECT_EQ(Uri::Parse("hf://o/n@a%2Fb/")->Child("c/d")->ToString(), "hf://o/n@a%2Fb/c/d");
  EXPECT_TRUE(ParseHfName(*Uri::Parse("hf://o/n@a%2Fb")).IsFolder());
}

TEST(HfVersion, GoesIntoAValidatorAndBack) {
  const HfVersion version{.commit = kCommit, .etag = std::string(64, 'a')};
  const std::optional<HfVersion> back = ParseValidator(ToValidator(version));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->commit, kCommit);
  EXPECT_EQ(back->Sha256(), std::string(32, '\xaa'));
  EXPECT_FALSE(ParseValidator(ToValidator({.commit = "", .etag = "x"})).has_value());
  EXPECT_FALSE(ParseValidator(ToValidator({.commit = kCommit, .etag = ""})).has_value());
  EXPECT_FALSE(ParseValidator("\"").has_value());
  EXPECT_EQ(BareEtag("W/\"ab-1\""), "ab-1");
  EXPECT_EQ(BareEtag("\"a/b\""), "");
}

TEST(HfRepository, IsReadFromTheApi) {
  const absl::StatusOr<HfRepository> repository = ParseHfRepository(absl::StrCat(
      R"({"sha":")", kCommit, R"(","siblings":[{"rfilename":"b"},{"rfilename":"s/a"},)",
      R"({"rfilename":"a"}]})"));
  ASSERT_TRUE(repository.ok());
  EXPECT_EQ(FilesIn(repository->files, ""), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(FilesIn(repository->files, "s/"), std::vector<std::string>{"a"});
}

TEST(HfRepository, RefusesNonsense) {
  for (const std::string& json :
       {std::string(), std::string("[]"), std::string(R"({"sha":"x","siblings":[]})"),
        absl::StrCat(R"({"sha":")", kCommit, R"("})"),
        absl::StrCat(R"({"sha":")", kCommit, R"(","siblings":[{"rfilename":""}]})"),
        absl::StrCat(R"({"sha":")", kCommit, R"(","siblings":[1]})")}) {
    EXPECT_EQ(ReasonOf(ParseHfRepository(json).status()), Reason::kSourceProtocol) << json;
  }
}

std::string RepositoryOf(const std::vector<std::string>& files) {
  std::string siblings;
  for (const std::string& file : files) {
    absl::StrAppend(&siblings, siblings.empty() ? "" : ",", R"({"rfilename":")", file, R"("})");
  }
  return absl::StrCat(R"({"sha":")", kCommit, R"(","siblings":[)", siblings, "]}");
}

TEST(HfRepository, HasBounds) {
  const std::vector<std::string> most(100'000, "a");
  EXPECT_EQ(ParseHfRepository(RepositoryOf(most))->files.size(), most.size());
  EXPECT_TRUE(ParseHfRepository(RepositoryOf({std::string(4096, 'a')})).ok());
  EXPECT_TRUE(ParseHfRepository(RepositoryOf({}) + std::string(1 << 20, ' ')).ok());
  for (const std::string& json : {RepositoryOf(std::vector<std::string>(100'001, "a")),
                                  RepositoryOf({std::string(4097, 'a')}),
                                  RepositoryOf({}) + std::string(kMaxHfAnswerBytes, ' ')}) {
    EXPECT_EQ(ReasonOf(ParseHfRepository(json).status()), Reason::kSourceProtocol);
  }
}

}  // namespace
}  // namespace weightd::source
