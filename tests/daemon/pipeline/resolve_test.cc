#include "daemon/pipeline/resolve.h"

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/source.h"
#include "gtest/gtest.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

class ResolveTest : public testing::Test {
 protected:
  absl::StatusOr<ResolvedModel> Resolve(absl::string_view uri) {
    return ResolveModel(source_, Uri::Parse(uri).value(), policy_, cancellation_);
  }
  std::vector<std::string> Names(const absl::StatusOr<ResolvedModel>& model) {
    std::vector<std::string> names;
    if (model.ok()) {
      for (const ModelFile& file : model->files) names.push_back(file.name);
    }
    return names;
  }

  fakes::MemorySource source_;
  source::ReadPolicy policy_;
  Cancellation cancellation_;
};

using Strings = std::vector<std::string>;

TEST_F(ResolveTest, AWeightFileIsFoundWithOneQuestion) {
  source_.Put("http://h/m/a.safetensors", "12345");
  const auto model = Resolve("http://h/m/a.safetensors");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Names(model), Strings{"a.safetensors"});
  EXPECT_EQ(model->total_bytes, 5u);
  EXPECT_TRUE(model->pinned_to_version);
  EXPECT_EQ(model->revision.hex().size(), 64u);
  EXPECT_EQ(source_.stats().size(), 1u);
  EXPECT_EQ(source_.bytes_read(), 0u);
}

TEST_F(ResolveTest, AFileOfAnyNameIsFound) {
  source_.Put("http://h/blobs/4f3a", "12345");
  EXPECT_EQ(Names(Resolve("http://h/blobs/4f3a")), Strings{"4f3a"});
}

TEST_F(ResolveTest, AFolderHasItsSingleFileWithAndWithoutSlash) {
  source_.Put("http://h/m/model.safetensors", "123");
  EXPECT_EQ(Names(Resolve("http://h/m/")), Strings{"model.safetensors"});
  EXPECT_EQ(Names(Resolve("http://h/m")), Strings{"model.safetensors"});
}

TEST_F(ResolveTest, AFolderWhoseListingAnswersForItIsStillAFolder) {
  source_.Put("http://h/m", "<html>index of m</html>");
  source_.Put("http://h/m/model.safetensors", "123");
  EXPECT_EQ(Names(Resolve("http://h/m")), Strings{"model.safetensors"});
}

TEST_F(ResolveTest, AFolderMayHaveTheNameOfAFile) {
  source_.Put("http://h/m.safetensors/model.safetensors", "123");
  EXPECT_EQ(Names(Resolve("http://h/m.safetensors")), Strings{"model.safetensors"});
}

TEST_F(ResolveTest, AnIndexNamesItsShards) {
  const std::string index = fakes::ShardIndexFile(
      {{"a", "s-2.safetensors"}, {"b", "s-1.safetensors"}, {"c", "sub/s-3.safetensors"}});
  source_.Put("http://h/m/model.safetensors.index.json", index);
  source_.Put("http://h/m/s-1.safetensors", "1");
  source_.Put("http://h/m/s-2.safetensors", "22");
  source_.Put("http://h/m/sub/s-3.safetensors", "333");
  source_.Put("http://h/m/model.safetensors", "not looked at");
  const auto model = Resolve("http://h/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Names(model), (Strings{"s-1.safetensors", "s-2.safetensors", "sub/s-3.safetensors"}));
  EXPECT_EQ(model->total_bytes, 6u);
  EXPECT_EQ(model->shard_index, index);
  EXPECT_EQ(model->files[1].version.size, 2u);
}

// A folder that is written to once, when one of its shards is looked up.
class PushedTo : public fakes::MemorySource {
 public:
  absl::StatusOr<source::ObjectVersion> Stat(const Uri& uri, const source::ReadPolicy& policy,
                                             Cancellation& cancellation) override {
    auto version = MemorySource::Stat(uri, policy, cancellation);
    if (absl::EndsWith(uri.ToString(), "/s-1.safetensors") && !written_.exchange(true)) {
      Put("http://h/m/model.safetensors.index.json", "a notice that somebody writes here");
      Put("http://h/m/s-2.safetensors", "new");
    }
    return version;
  }

 private:
  std::atomic<bool> written_ = false;
};

TEST_F(ResolveTest, ShardsOfTwoRevisionsAreNoModel) {
  PushedTo source;
  source.Put("http://h/m/model.safetensors.index.json",
             fakes::ShardIndexFile({{"a", "s-1.safetensors"}, {"b", "s-2.safetensors"}}));
  source.Put("http://h/m/s-1.safetensors", "old");
  source.Put("http://h/m/s-2.safetensors", "old");
  const auto model =
      ResolveModel(source, Uri::Parse("http://h/m/").value(), policy_, cancellation_);
  EXPECT_EQ(ReasonOf(model.status()), Reason::kSourceChanged);
}

TEST_F(ResolveTest, AFolderOfTooManyWeightFilesIsRefused) {
  for (int i = 0; i <= 10'000; ++i) {
    source_.Put(absl::StrCat("http://h/m/", i, ".safetensors"), "");
  }
  const auto model = Resolve("http://h/m/");
  EXPECT_EQ(ReasonOf(model.status()), Reason::kMalformedModel);
  EXPECT_LT(source_.stats().size(), 10u);
}

TEST_F(ResolveTest, ManyShardsAreAllFound) {
  std::map<std::string, std::string> weight_map;
  for (int i = 0; i < 500; ++i) {
    const std::string name = absl::StrCat("shard-", i, ".safetensors");
    weight_map[absl::StrCat("t", i)] = name;
    source_.Put(absl::StrCat("http://h/m/", name), "x");
  }
  source_.Put("http://h/m/model.safetensors.index.json", fakes::ShardIndexFile(weight_map));
  const auto model = Resolve("http://h/m");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->files.size(), 500u);
  EXPECT_EQ(model->total_bytes, 500u);
}

TEST_F(ResolveTest, AMissingShardIsNamed) {
  source_.Put("http://h/m/model.safetensors.index.json",
              fakes::ShardIndexFile({{"a", "here.safetensors"}, {"b", "gone.safetensors"}}));
  source_.Put("http://h/m/here.safetensors", "1");
  const auto model = Resolve("http://h/m/");
  EXPECT_EQ(ReasonOf(model.status()), Reason::kModelNotFound);
  EXPECT_TRUE(absl::StrContains(model.status().message(), "gone.safetensors")) << model.status();
}

TEST_F(ResolveTest, AnIndexThatLeadsOutOfTheFolderIsRefused) {
  source_.Put("http://h/m/model.safetensors.index.json",
              fakes::ShardIndexFile({{"a", "../secret.safetensors"}}));
  source_.Put("http://h/secret.safetensors", "1");
  EXPECT_EQ(ReasonOf(Resolve("http://h/m/").status()), Reason::kMalformedModel);
}

TEST_F(ResolveTest, TheOnlyWeightFileOfAFolderIsIt) {
  source_.Put("file:///m/weights.safetensors", "1");
  source_.Put("file:///m/config.json", "1");
  EXPECT_EQ(Names(Resolve("file:///m/")), Strings{"weights.safetensors"});
}

TEST_F(ResolveTest, AllWeightFilesOfAFolderWithoutIndexAreAModel) {
  for (const char* name : {"two.safetensors", "one.safetensors", "config.json",
                           "sub/three.safetensors", "notes.safetensors.md"}) {
    source_.Put(absl::StrCat("file:///m/", name), "1");
  }
  const auto before = Resolve("file:///m");
  EXPECT_EQ(Names(before), (Strings{"one.safetensors", "two.safetensors"}));
  source_.Put("file:///m/zero.safetensors", "1");
  const auto after = Resolve("file:///m");
  EXPECT_EQ(Names(after), (Strings{"one.safetensors", "two.safetensors", "zero.safetensors"}));
  EXPECT_NE(after->revision, before->revision) << "one file more is another revision";
}

// A folder with a file that no URI can name.
class OddFolder : public fakes::MemorySource {
 public:
  explicit OddFolder(std::string name) : name_(std::move(name)) {}
  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const source::ReadPolicy& policy,
                                                Cancellation& cancellation) override {
    auto names = MemorySource::List(folder, policy, cancellation);
    names->push_back(name_);
    return names;
  }

 private:
  const std::string name_;
};

TEST_F(ResolveTest, AFolderOfTensorizerFilesIsAModelUnlessItHasSafetensorsToo) {
  source_.Put("http://h/m/model.tensors", "1");
  const auto single = Resolve("http://h/m/");
  ASSERT_TRUE(single.ok()) << single.status();
  EXPECT_EQ(single->files[0].name, "model.tensors");
  source_.Put("file:///m/b.tensors", "1");
  source_.Put("file:///m/a.tensors", "1");
  source_.Put("file:///m/config.json", "1");
  const auto listed = Resolve("file:///m/");
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->files.size(), 2u);
  EXPECT_EQ(listed->files[0].name, "a.tensors");
  EXPECT_EQ(listed->files[1].name, "b.tensors");
  source_.Put("file:///m/c.safetensors", "1");
  const auto both = Resolve("file:///m/");
  ASSERT_TRUE(both.ok()) << both.status();
  ASSERT_EQ(both->files.size(), 1u);
  EXPECT_EQ(both->files[0].name, "c.safetensors");
}

TEST_F(ResolveTest, AFolderIsNotServedWithoutAWeightFileThatNoUriNames) {
  const Uri uri = Uri::Parse("file:///m/").value();
  OddFolder with_notes("a\nb.txt");
  with_notes.Put("file:///m/one.safetensors", "1");
  EXPECT_EQ(Names(ResolveModel(with_notes, uri, policy_, cancellation_)),
            Strings{"one.safetensors"});
  OddFolder with_weights("two\n\xff.safetensors");
  with_weights.Put("file:///m/one.safetensors", "1");
  const absl::Status status = ResolveModel(with_weights, uri, policy_, cancellation_).status();
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel);
  EXPECT_TRUE(absl::StrContains(status.message(), "two\\x0a\\xff.safetensors")) << status;
  EXPECT_TRUE(absl::StrContains(HintOf(status), "rename")) << HintOf(status);
  with_weights.Put("file:///m/model.safetensors.index.json",
                   fakes::ShardIndexFile({{"a", "one.safetensors"}}));
  EXPECT_EQ(Names(ResolveModel(with_weights, uri, policy_, cancellation_)),
            Strings{"one.safetensors"});
}

TEST_F(ResolveTest, AListedWeightFileThatIsNotFoundIsNoModelWithoutIt) {
  source_.Put("file:///m/one.safetensors", "1");
  source_.Put("file:///m/two.safetensors", "1");
  source_.FailStat("file:///m/two.safetensors", Error(Reason::kModelNotFound, "gone"));
  const absl::Status status = Resolve("file:///m").status();
  EXPECT_EQ(ReasonOf(status), Reason::kModelNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), "two.safetensors: gone")) << status;
}

// A place where no folder is.
class NoBucket : public fakes::MemorySource {
 public:
  absl::StatusOr<std::vector<std::string>> List(const Uri&, const source::ReadPolicy&,
                                                Cancellation&) override {
    return Error(Reason::kModelNotFound, "there is no such bucket", "check its name");
  }
};

TEST_F(ResolveTest, AMissingFolderIsToldAsItsSourceTellsIt) {
  NoBucket source;
  for (const char* uri : {"s3://bucket/m/", "s3://bucket/m", "s3://bucket/"}) {
    const absl::Status status =
        ResolveModel(source, Uri::Parse(uri).value(), policy_, cancellation_).status();
    EXPECT_EQ(ReasonOf(status), Reason::kModelNotFound);
    EXPECT_EQ(status.message(), "there is no such bucket") << uri;
    EXPECT_EQ(HintOf(status), "check its name") << uri;
  }
}

TEST_F(ResolveTest, NothingThereIsNotFoundWithOrWithoutListing) {
  for (const bool can_list : {true, false}) {
    source_.SetCanList(can_list);
    for (const char* uri : {"http://h/m", "http://h/m/", "http://h/m.safetensors"}) {
      const auto model = Resolve(uri);
      EXPECT_EQ(ReasonOf(model.status()), Reason::kModelNotFound) << uri;
    }
  }
}

TEST_F(ResolveTest, AStoreThatDeniesWhatIsMissingDoesNotHideWhatIsThere) {
  source_.FailStat("http://h/m/model.safetensors.index.json",
                   Error(Reason::kSourceDenied, "HTTP 403"));
  source_.Put("http://h/m/model.safetensors", "1");
  EXPECT_EQ(Names(Resolve("http://h/m")), Strings{"model.safetensors"});
}

TEST_F(ResolveTest, ADeniedFolderIsDenied) {
  source_.SetCanList(false);
  for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
    source_.FailStat(absl::StrCat("http://h/m/", name), Error(Reason::kSourceDenied, "HTTP 403"));
  }
  EXPECT_EQ(ReasonOf(Resolve("http://h/m/").status()), Reason::kSourceDenied);
}

TEST_F(ResolveTest, AStoreThatIsDownIsNotTakenForAnEmptyOne) {
  source_.FailStat("http://h/m/model.safetensors.index.json",
                   Error(Reason::kSourceUnavailable, "no answer"));
  source_.Put("http://h/m/model.safetensors", "1");
  EXPECT_EQ(ReasonOf(Resolve("http://h/m/").status()), Reason::kSourceUnavailable);
}

TEST_F(ResolveTest, WeakValidatorsAreOnlyForThosWhoMay) {
  source_.PutUnpinned("http://h/a.safetensors", "1");
  const auto refused = Resolve("http://h/a.safetensors");
  EXPECT_EQ(ReasonOf(refused.status()), Reason::kNotAllowed);
  EXPECT_FALSE(HintOf(refused.status()).empty());
  policy_.unpinned = true;
  const auto allowed = Resolve("http://h/a.safetensors");
  ASSERT_TRUE(allowed.ok());
  EXPECT_FALSE(allowed->pinned_to_version);
}

TEST_F(ResolveTest, AWeakIndexAloneUnpinsTheModel) {
  policy_.unpinned = true;
  source_.PutUnpinned("http://h/m/model.safetensors.index.json",
                      fakes::ShardIndexFile({{"a", "a.safetensors"}}));
  source_.Put("http://h/m/a.safetensors", "1");
  const auto model = Resolve("http://h/m/");
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(model->pinned_to_version);
}

TEST_F(ResolveTest, TheRevisionChangesWithAnyFileAndOnlyThen) {
  const std::string index = fakes::ShardIndexFile({{"a", "a.safetensors"}});
  source_.Put("http://h/m/model.safetensors.index.json", index);
  source_.Put("http://h/m/a.safetensors", "1");
  const RevisionId first = Resolve("http://h/m/")->revision;
  EXPECT_EQ(Resolve("http://h/m/")->revision, first);
  source_.Put("http://h/m/a.safetensors", "1");
  const RevisionId second = Resolve("http://h/m/")->revision;
  EXPECT_NE(second, first) << "same bytes, but another version";
  source_.Put("http://h/m/model.safetensors.index.json", index);
  EXPECT_NE(Resolve("http://h/m/")->revision, second);
}

TEST_F(ResolveTest, SmallFilesBelongToTheRevision) {
  const auto resolve = [this](const KnownSmallFiles& known = {}) {
    auto model =
        ResolveModel(source_, Uri::Parse("http://h/m/").value(), policy_, cancellation_, &known);
    EXPECT_TRUE(model.ok()) << model.status();
    return model->revision;
  };
  source_.Put("http://h/m/model.safetensors", "1");
  const RevisionId bare = resolve();
  EXPECT_EQ(bare, Resolve("http://h/m/")->revision) << "as for those who want none";
  source_.Put("http://h/m/config.json", "{}");
  const RevisionId first = resolve();
  EXPECT_NE(first, bare);
  EXPECT_EQ(resolve(), first);
  EXPECT_EQ(resolve({{"config.json"}}), first);
  EXPECT_EQ(resolve({std::vector<std::string>()}), bare);
  EXPECT_EQ(Resolve("http://h/m/")->revision, bare);
  source_.Put("http://h/m/config.json", "{}");
  const RevisionId second = resolve();
  EXPECT_NE(second, first) << "same bytes, but another version";
  source_.Put("http://h/m/vocab.txt", "a");
  EXPECT_NE(resolve(), second);
  EXPECT_EQ(resolve({{"config.json"}}), second) << "one more is seen by the next load";
  source_.Remove("http://h/m/vocab.txt");
  EXPECT_EQ(resolve({{"config.json", "vocab.txt"}}), second);
  source_.Remove("http://h/m/config.json");
  EXPECT_EQ(resolve({{"config.json", "vocab.txt"}}), bare);
}

// A folder whose first file is written anew, once, when one of its small files is looked up.
class WrittenTo : public fakes::MemorySource {
 public:
  explicit WrittenTo(std::string first) : first_(std::move(first)) {}
  absl::StatusOr<source::ObjectVersion> Stat(const Uri& uri, const source::ReadPolicy& policy,
                                             Cancellation& cancellation) override {
    if (absl::EndsWith(uri.ToString(), "/config.json") && !written_.exchange(true)) {
      Put(first_, "new");
    }
    return MemorySource::Stat(uri, policy, cancellation);
  }

 private:
  const std::string first_;
  std::atomic<bool> written_ = false;
};

TEST_F(ResolveTest, SmallFilesOfAnotherRevisionThanTheWeightsAreNoModel) {
  for (const char* first : {"model.safetensors", "model.safetensors.index.json"}) {
    WrittenTo source(absl::StrCat("http://h/m/", first));
    source.Put(absl::StrCat("http://h/m/", first), fakes::ShardIndexFile({{"a", "s.safetensors"}}));
    source.Put("http://h/m/s.safetensors", "1");
    source.Put("http://h/m/config.json", "{}");
    const KnownSmallFiles unknown;
    const absl::Status status =
        ResolveModel(source, Uri::Parse("http://h/m/").value(), policy_, cancellation_, &unknown)
            .status();
    EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged) << first;
    EXPECT_TRUE(absl::StrContains(status.message(), first)) << status;
  }
}

TEST_F(ResolveTest, AWeightFileHasNoSmallFiles) {
  source_.Put("http://h/m/a.safetensors", "1");
  source_.Put("http://h/m/config.json", "{}");
  const KnownSmallFiles unknown;
  const auto model = ResolveModel(source_, Uri::Parse("http://h/m/a.safetensors").value(), policy_,
                                  cancellation_, &unknown);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->small_files.empty());
  EXPECT_EQ(source_.stats().size(), 1u);
}

TEST(NameRevision, PartsCannotFlowIntoOneAnother) {
  const Uri uri = Uri::Parse("http://h/m/").value();
  const auto file = [](std::string name, std::string validator) {
    ModelFile made;
    made.name = std::move(name);
    made.version.size = 1;
    made.version.validator = std::move(validator);
    return made;
  };
  const ModelFile a = file("a", "bc");
  const ModelFile b = file("ab", "c");
  EXPECT_NE(NameRevision(uri, {a}, nullptr), NameRevision(uri, {b}, nullptr));
  EXPECT_NE(NameRevision(uri, {a, b}, nullptr), NameRevision(uri, {b}, &a));
  const SmallFile small_b = {.file = b};
  EXPECT_NE(NameRevision(uri, {a, b}, nullptr), NameRevision(uri, {a}, nullptr, {small_b}));
  EXPECT_NE(NameRevision(uri, {a}, &b), NameRevision(uri, {a}, nullptr, {small_b}));
}

TEST_F(ResolveTest, ACancelledResolveEnds) {
  source_.Put("http://h/a.safetensors", "1");
  cancellation_.Cancel(Error(Reason::kCancelled, "gone"));
  EXPECT_EQ(ReasonOf(Resolve("http://h/a.safetensors").status()), Reason::kCancelled);
}

}  // namespace
}  // namespace weightd::pipeline
