#include "daemon/source/file/file_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/daemon/source/contract/source_contract.h"

namespace weightd::source {
namespace {

void WriteFile(const std::filesystem::path& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), bytes.size());
}

// A folder of its own, removed at the end.
class Folder {
 public:
  explicit Folder(const std::string& parent) {
    std::string pattern = absl::StrCat(parent, "/weightd-source-XXXXXX");
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  Uri UriOf(absl::string_view name) const {
    return *Uri::Parse((path_ / std::string(name)).string());
  }

 private:
  std::filesystem::path path_;
};

class FilePlace final : public Place {
 public:
  FilePlace(const std::string& parent, bool direct_io, bool io_uring) : folder_(parent) {
    FileSourceOptions options;
    options.direct_io = direct_io;
    options.io_uring = io_uring;
    source_ = MakeFileSource(std::move(options));
  }

  void Put(absl::string_view name, absl::string_view bytes) override {
    WriteFile(folder_.path() / std::string(name), bytes);
  }
  Uri UriOf(absl::string_view name) override { return folder_.UriOf(name); }
  Source& source() override { return *source_; }

 private:
  Folder folder_;
  std::unique_ptr<Source> source_;
};

PlaceKind Kind(std::string name, std::string parent, bool direct_io, bool io_uring) {
  return {std::move(name), [=]() -> std::unique_ptr<Place> {
            return std::make_unique<FilePlace>(parent, direct_io, io_uring);
          }};
}

INSTANTIATE_TEST_SUITE_P(File, SourceContract,
                         testing::Values(Kind("Ring", testing::TempDir(), true, true),
                                         Kind("DirectThreads", testing::TempDir(), true, false),
                                         Kind("PageCache", testing::TempDir(), false, true),
                                         Kind("Tmpfs", "/dev/shm", true, true)),
                         [](const auto& info) { return info.param.name; });

// From here on the kernel refuses this call to the calling thread, as a container's seccomp profile
// does (seccomp(2)). False if it can't be had.
bool RefuseToThread(uint32_t system_call) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(filter), .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

class RefusedRing : public testing::TestWithParam<uint32_t> {};

TEST_P(RefusedRing, TheFileIsReadWithoutOne) {
  const Folder folder(testing::TempDir());
  const std::string content = Pattern(5 << 20);
  WriteFile(folder.path() / "model", content);
  std::string bytes(content.size(), '\0');
  absl::Status status;
  std::thread([&] {
    ASSERT_TRUE(RefuseToThread(GetParam()));
    Cancellation cancellation;
    const std::unique_ptr<Source> source = MakeFileSource(FileSourceOptions());
    const ObjectVersion version =
        *source->Stat(folder.UriOf("model"), {.any_path = true}, cancellation);
    const ReadRequest request = {.object = &version,
                                 .range = {0, version.size},
                                 .destination = reinterpret_cast<std::byte*>(bytes.data())};
    status = source->Read({&request, 1}, {.any_path = true}, {}, cancellation);
  }).join();
  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_TRUE(bytes == content);
}

INSTANTIATE_TEST_SUITE_P(FileSource, RefusedRing,
                         testing::Values(SYS_io_uring_setup, SYS_io_uring_enter));

// Below /allowed some files and links; outside of it a secret.
class FileAccess : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(root() / "sub");
    WriteFile(root() / "model", "weights");
    WriteFile(folder_.path() / "secret", "secret");
    FileSourceOptions options;
    options.roots = {absl::StrCat(root().string(), "/")};
    source_ = MakeFileSource(std::move(options));
  }

  std::filesystem::path root() const { return folder_.path() / "allowed"; }

  absl::Status Stat(const std::string& path, const ReadPolicy& policy = {}) {
    Cancellation cancellation;
    return source_->Stat(*Uri::Parse(path), policy, cancellation).status();
  }

  Folder folder_{testing::TempDir()};
  std::unique_ptr<Source> source_;
};

TEST_F(FileAccess, OnlyWhatLiesBelowARootIsReached) {
  EXPECT_EQ(Stat(root() / "model"), absl::OkStatus());
  EXPECT_EQ(ReasonOf(Stat(folder_.path() / "secret")), Reason::kAddressRefused);
  EXPECT_EQ(Stat(folder_.path() / "secret", {.any_path = true}), absl::OkStatus());
  EXPECT_EQ(ReasonOf(Stat("/etc/passwd")), Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat(absl::StrCat(root().string(), "-other/model"))), Reason::kAddressRefused);
}

TEST_F(FileAccess, WhatIsOutsideLooksTheSameWhetherItExistsOrNot) {
  const std::string there = folder_.path() / "secret";
  const std::string not_there = folder_.path() / "absent";
  EXPECT_EQ(Stat(there).code(), Stat(not_there).code());
  std::filesystem::create_symlink("../secret", root() / "link");
  std::filesystem::create_symlink("../absent", root() / "dangling");
  EXPECT_EQ(ReasonOf(Stat(root() / "link")), Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat(root() / "dangling")), Reason::kAddressRefused);
}

TEST_F(FileAccess, LinksAreFollowedInsideARootOnly) {
  std::filesystem::create_symlink("../model", root() / "sub" / "inside");
  std::filesystem::create_symlink(folder_.path() / "secret", root() / "absolute");
  std::filesystem::create_symlink("..", root() / "up");
  EXPECT_EQ(Stat(root() / "sub" / "inside"), absl::OkStatus());
  EXPECT_EQ(ReasonOf(Stat(root() / "absolute")), Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat(root() / "up" / "secret")), Reason::kAddressRefused);
}

TEST_F(FileAccess, MagicLinksAreRefusedAlsoToThoseWhoMayReadAnything) {
  const std::string magic = absl::StrCat("/proc/self/root", (root() / "model").string());
  EXPECT_EQ(ReasonOf(Stat(magic, {.any_path = true})), Reason::kAddressRefused);
}

TEST_F(FileAccess, OnlyRegularFilesAreModels) {
  ASSERT_EQ(mkfifo((root() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReasonOf(Stat(root() / "pipe")), Reason::kModelNotFound);
  EXPECT_EQ(ReasonOf(Stat(root() / "sub")), Reason::kModelNotFound);
  EXPECT_EQ(ReasonOf(Stat("/dev/zero", {.any_path = true})), Reason::kModelNotFound);
}

TEST_F(FileAccess, ListsRegularFilesAndLinksButToFoldersSorted) {
  WriteFile(root() / "b c", "");
  WriteFile(root() / "c\nd", "");
  ASSERT_EQ(mkfifo((root() / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("model", root() / "alias");
  std::filesystem::create_symlink("nothing", root() / "dangling");
  std::filesystem::create_symlink("../secret", root() / "escape");
  std::filesystem::create_symlink("sub", root() / "folder");
  Cancellation cancellation;
  const absl::StatusOr<std::vector<std::string>> names =
      source_->List(*Uri::Parse(absl::StrCat(root().string(), "/")), {}, cancellation);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_THAT(*names, testing::ElementsAre("alias", "b c", "c\nd", "dangling", "escape", "model"));
  EXPECT_EQ(ReasonOf(source_->List(*Uri::Parse("/etc/"), {}, cancellation).status()),
            Reason::kAddressRefused);
}

TEST_F(FileAccess, AFileThatShrinksUnderAReadIsAChangedSource) {
  Cancellation cancellation;
  const Uri uri = *Uri::Parse((root() / "model").string());
  WriteFile(root() / "model", Pattern(8 << 20));
  const ObjectVersion version = *source_->Stat(uri, {}, cancellation);
  std::string bytes(version.size, '\0');
  const ReadRequest request = {.object = &version,
                               .range = {0, version.size},
                               .destination = reinterpret_cast<std::byte*>(bytes.data())};
  ReadObserver observer;
  observer.on_bytes = [&](uint64_t) { std::filesystem::resize_file(root() / "model", 10); };
  EXPECT_EQ(ReasonOf(source_->Read({&request, 1}, {}, observer, cancellation)),
            Reason::kSourceChanged);
}

timespec ChangeTimeOf(const std::filesystem::path& path) {
  struct stat about{};
  EXPECT_EQ(stat(path.c_str(), &about), 0);
  return about.st_ctim;
}

// As a tool does that keeps times: the bytes are others, size and time of writing are not.
TEST_F(FileAccess, AFileThatIsRewrittenUnderAReadIsAChangedSource) {
  Cancellation cancellation;
  const std::filesystem::path path = root() / "model";
  const Uri uri = *Uri::Parse(path.string());
  WriteFile(path, Pattern(8 << 20));
  const ObjectVersion version = *source_->Stat(uri, {}, cancellation);
  // More than once where the kernel's clock for files ticks slowly.
  const auto rewrite = [&] {
    const auto written = std::filesystem::last_write_time(path);
    const timespec before = ChangeTimeOf(path);
    for (timespec now = before; now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec;
         now = ChangeTimeOf(path)) {
      WriteFile(path, std::string(8 << 20, 'x'));
      std::filesystem::last_write_time(path, written);
    }
  };
  std::string bytes(version.size, '\0');
  const ReadRequest request = {.object = &version,
                               .range = {0, version.size},
                               .destination = reinterpret_cast<std::byte*>(bytes.data())};
  std::once_flag once;
  ReadObserver observer;
  observer.on_bytes = [&](uint64_t) { std::call_once(once, rewrite); };
  EXPECT_EQ(ReasonOf(source_->Read({&request, 1}, {}, observer, cancellation)),
            Reason::kSourceChanged);
  EXPECT_EQ(ReasonOf(source_->Read({&request, 1}, {}, {}, cancellation)), Reason::kSourceChanged);
}

TEST_F(FileAccess, ACancellationEndsARunningRead) {
  Cancellation cancellation;
  const Uri uri = *Uri::Parse((root() / "model").string());
  WriteFile(root() / "model", Pattern(64 << 20));
  const ObjectVersion version = *source_->Stat(uri, {}, cancellation);
  std::string bytes(version.size, '\0');
  const ReadRequest request = {.object = &version,
                               .range = {0, version.size},
                               .destination = reinterpret_cast<std::byte*>(bytes.data())};
  std::atomic<uint64_t> arrived = 0;
  ReadObserver observer;
  observer.on_bytes = [&](uint64_t n) {
    arrived += n;
    cancellation.Cancel(Error(Reason::kCancelled, "enough"));
  };
  EXPECT_EQ(ReasonOf(source_->Read({&request, 1}, {}, observer, cancellation)), Reason::kCancelled);
  EXPECT_LT(arrived, version.size);
}

}  // namespace
}  // namespace weightd::source
