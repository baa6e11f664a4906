// Hubs of models, and the local cache that their Python client leaves, as sources. Whole models on
// the daemon, and what a hub refuses: tests/e2e/test_hf.py.

#include "daemon/source/hf/hf_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/source/contract/source_contract.h"
#include "tests/servers/handler_server.h"

namespace weightd::source {
namespace {

const ReadPolicy kAnywhere = {.any_path = true, .any_address = true, .unpinned = false};

std::string Sha256Of(absl::string_view bytes) {
  return absl::BytesToHexString(HashOf(ChecksumKind::kSha256, bytes));
}

Uri InRepository(absl::string_view file) {
  return *Uri::Parse(absl::StrCat("hf://org/m@main/", file));
}

std::unique_ptr<Source> MakeSource(absl::StatusOr<std::string> endpoint, std::string cache,
                                   bool offline) {
  HfSourceOptions options;
  options.settings.endpoint = std::move(endpoint);
  options.settings.cache = std::move(cache);
  options.settings.offline = offline;
  options.http.chunk_bytes = 1 << 20;
  return *MakeHfSource(std::move(options));
}

using Files = std::map<std::string, std::string>;

// A repository: each change is a commit, and "main" names the last.
class Commits {
 public:
  // The new commit.
  std::string Push(absl::string_view name, absl::string_view bytes) {
    const absl::MutexLock lock(&mutex_);
    Files files = last_.empty() ? Files() : commits_[last_];
    files[std::string(name)] = std::string(bytes);
    last_ = absl::StrFormat("%040x", commits_.size() + 1);
    commits_[last_] = std::move(files);
    return last_;
  }

  // The commit that "main" or a commit's name means, and its files; "" if there is none.
  std::pair<std::string, Files> At(const std::string& revision) const {
    const absl::MutexLock lock(&mutex_);
    const std::string& commit = revision == "main" ? last_ : revision;
    const auto found = commits_.find(commit);
    return found == commits_.end() ? std::pair<std::string, Files>()
                                   : std::pair<std::string, Files>(*found);
  }

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, Files> commits_ ABSL_GUARDED_BY(mutex_);
  std::string last_ ABSL_GUARDED_BY(mutex_);
};

ServiceReply Bytes(const ServiceRequest& request, const std::string& bytes) {
  const std::string range = request.Header("range");
  const std::pair<std::string, std::string> ends =
      absl::StrSplit(absl::StripPrefix(range, "bytes="), '-');
  size_t begin = 0;
  size_t last = 0;
  if (!absl::SimpleAtoi(ends.first, &begin) || !absl::SimpleAtoi(ends.second, &last)) {
    return {.body = bytes, .headers = {"Accept-Ranges: bytes"}};
  }
  if (begin >= bytes.size()) {
    return {.status = 416, .headers = {absl::StrCat("Content-Range: bytes */", bytes.size())}};
  }
  last = std::min(last, bytes.size() - 1);
  return {.status = 206,
          .body = bytes.substr(begin, last + 1 - begin),
          .headers = {absl::StrCat("Content-Range: bytes ", begin, "-", last, "/", bytes.size())}};
}

// Keeps small files itself, and large ones, which it knows the SHA-256 of, on another server.
class HubPlace final : public Place {
 public:
  explicit HubPlace(bool large)
      : large_(large),
        cdn_([this](const ServiceRequest& request) { return Bring(request); }),
        hub_([this](const ServiceRequest& request) { return Answer(request); }),
        source_(MakeSource(hub_.Url(), "", /*offline=*/false)) {}

  void Put(absl::string_view name, absl::string_view bytes) override { commits_.Push(name, bytes); }
  Uri UriOf(absl::string_view name) override { return InRepository(name); }
  bool keeps_versions() const override { return true; }
  Source& source() override { return *source_; }

 private:
  ServiceReply Answer(const ServiceRequest& request) const {
    const std::pair<std::string, std::string> place =
        absl::StrSplit(absl::StripPrefix(request.path, "/org/m/resolve/"), absl::MaxSplits('/', 1));
    const auto [commit, files] = commits_.At(place.first);
    const auto file = files.find(place.second);
    if (file == files.end()) {
      return {.status = 404,
              .headers = {absl::StrCat("X-Error-Code: ",
                                       commit.empty() ? "RevisionNotFound" : "EntryNotFound")}};
    }
    const std::string digest = Sha256Of(file->second);
    const std::string of_commit = absl::StrCat("X-Repo-Commit: ", commit);
    if (large_) {
      return {.status = 302,
              .headers = {of_commit, absl::StrCat("X-Linked-Etag: \"", digest, "\""),
                          absl::StrCat("Location: ", cdn_.Url(absl::StrCat("/", commit, "/")),
                                       place.second)}};
    }
    ServiceReply reply = Bytes(request, file->second);
    reply.headers.push_back(of_commit);
    // As long as git's hash, which nobody computes here.
    reply.headers.push_back(absl::StrCat("ETag: \"", digest.substr(0, 40), "\""));
    return reply;
  }

  ServiceReply Bring(const ServiceRequest& request) const {
    const std::pair<std::string, std::string> place =
        absl::StrSplit(absl::StripPrefix(request.path, "/"), absl::MaxSplits('/', 1));
    return Bytes(request, commits_.At(place.first).second[place.second]);
  }

  const bool large_;
  Commits commits_;
  HandlerServer cdn_;
  HandlerServer hub_;
  const std::unique_ptr<Source> source_;
};

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(testing::TempDir() + "/hf-XXXXXX") {
    EXPECT_NE(mkdtemp(path_.data()), nullptr);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void WriteFile(const std::filesystem::path& path, absl::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// What huggingface_hub keeps of the repository, and nobody else.
class CachePlace final : public Place {
 public:
  CachePlace() : source_(MakeSource("http://127.0.0.1:1", folder_.path(), /*offline=*/true)) {}

  void Put(absl::string_view name, absl::string_view bytes) override {
    const std::string commit = commits_.Push(name, bytes);
    const std::filesystem::path root = folder_.path() + "/models--org--m";
    for (const auto& [file, content] : commits_.At(commit).second) {
      const std::string blob = Sha256Of(content);
      if (!std::filesystem::exists(root / "blobs" / blob)) {
        WriteFile(root / "blobs" / blob, content);
      }
      std::filesystem::create_directories(root / "snapshots" / commit);
      std::filesystem::create_symlink("../../blobs/" + blob, root / "snapshots" / commit / file);
    }
    WriteFile(root / "refs" / "main", commit);
  }
  Uri UriOf(absl::string_view name) override { return InRepository(name); }
  bool keeps_versions() const override { return true; }
  Source& source() override { return *source_; }

 private:
  const TemporaryFolder folder_;
  Commits commits_;
  const std::unique_ptr<Source> source_;
};

INSTANTIATE_TEST_SUITE_P(
    Hf, SourceContract,
    testing::Values(PlaceKind{"SmallFiles", [] { return std::make_unique<HubPlace>(false); }},
                    PlaceKind{"LargeFiles", [] { return std::make_unique<HubPlace>(true); }},
                    PlaceKind{"Cache", [] { return std::make_unique<CachePlace>(); }}),
    [](const auto& info) { return info.param.name; });

TEST(HfSourceTest, WithoutAnAddressOfAHubSaysSoOfEachModel) {
  const std::unique_ptr<Source> source =
      MakeSource(Error(Reason::kUnsupported, "HF_ENDPOINT is none", "set it"), "", false);
  Cancellation cancellation;
  for (const absl::Status& status :
       {source->Stat(InRepository("a"), kAnywhere, cancellation).status(),
        source->List(InRepository(""), kAnywhere, cancellation).status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::kUnsupported);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::StartsWith("hf://org/m@main/"),
                               testing::HasSubstr("HF_ENDPOINT is none")));
    EXPECT_EQ(HintOf(status), "set it");
  }
}

TEST(HfSourceTest, OfflineNeedsNoAddressOfAHub) {
  const TemporaryFolder folder;
  const std::unique_ptr<Source> source =
      MakeSource(Error(Reason::kUnsupported, "HF_ENDPOINT is none"), folder.path(), true);
  Cancellation cancellation;
  EXPECT_EQ(ReasonOf(source->Stat(InRepository("a"), kAnywhere, cancellation).status()),
            Reason::kModelNotFound);
}

}  // namespace
}  // namespace weightd::source
