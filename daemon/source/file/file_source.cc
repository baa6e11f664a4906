#include "daemon/source/file/file_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/source/file/file_open.h"
#include "daemon/source/file/read_steps.h"

namespace weightd::source {
namespace {

// The files of one Read, open and checked to be the versions asked for.
struct FileSet {
  std::vector<OpenedFile> files;
  std::vector<const ObjectVersion*> versions;
  absl::flat_hash_map<const ObjectVersion*, uint32_t> index;
};

// Tells an observer of steps, from any thread.
class Progress {
 public:
  Progress(const ReadObserver& observer, Traffic* traffic, size_t requests)
      : observer_(observer), traffic_(traffic), steps_left_(requests) {}

  void Expect(size_t request, size_t steps) { steps_left_[request] = steps; }

  void Done(const ReadStep& step) {
    observer_.on_bytes(step.wanted.size());
    if (traffic_ != nullptr) {
      traffic_->Received(step.wanted.size());
    }
    if (--steps_left_[step.request] == 0) {
      observer_.on_request_done(step.request);
    }
  }

 private:
  const ReadObserver& observer_;
  Traffic* const traffic_;
  std::vector<std::atomic<size_t>> steps_left_;
};

class FileSource final : public Source {
 public:
  explicit FileSource(FileSourceOptions options) : options_(std::move(options)) {
    for (std::string& root : options_.roots) {
      // In the normal form that URIs have, to be compared with them.
      if (const absl::StatusOr<Uri> uri = Uri::Parse(root); uri.ok()) {
        root = uri->DecodedPath();
      }
      root = std::string(absl::StripSuffix(root, "/"));
    }
  }

  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation) override {
    RETURN_IF_ERROR(cancellation.status());
    absl::StatusOr<ObjectVersion> version = Find(uri, policy);
    TellEnded(version.status());
    return version;
  }

  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy& policy,
                                                Cancellation& cancellation) override;

  bool copies() const override { return false; }

  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation) override {
    RETURN_IF_ERROR(cancellation.status());
    RETURN_IF_ERROR(CheckRanges(requests));
    absl::Status read = ReadAll(requests, policy, observer, cancellation);
    if (!cancellation.cancelled()) {
      TellEnded(read);
    }
    return read;
  }

 private:
  absl::StatusOr<ObjectVersion> Find(const Uri& uri, const ReadPolicy& policy) const {
    ASSIGN_OR_RETURN(const Fd located, Locate(uri, options_.roots, policy));
    return VersionOf(located, uri);
  }

  absl::Status ReadAll(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                       const ReadObserver& observer, Cancellation& cancellation) const;

  void TellEnded(const absl::Status& outcome) const {
    if (options_.traffic != nullptr) {
      options_.traffic->Ended(outcome);
    }
  }

  // Whether it is, or links to, something that may be reached and is no file.
  bool LeadsToOther(const Uri& uri, const ReadPolicy& policy) const {
    const absl::StatusOr<Fd> located = Locate(uri, options_.roots, policy);
    struct stat status{};
    return located.ok() && fstat(located->get(), &status) == 0 && !S_ISREG(status.st_mode);
  }

  absl::StatusOr<FileSet> OpenAll(absl::Span<const ReadRequest> requests,
                                  const ReadPolicy& policy) const;

  absl::Status Carry(const StepReads& reads) const {
    // A ring copies out of the page cache on one thread only.
    const bool direct = std::all_of(reads.files.begin(), reads.files.end(),
                                    [](const OpenedFile& file) { return file.alignment > 1; });
    if (direct && options_.io_uring) {
      const absl::Status status = ReadWithUring(reads);
      if (!absl::IsUnimplemented(status)) {
        return status;
      }
    }
    return ReadWithThreads(reads);
  }

  FileSourceOptions options_;
};

absl::StatusOr<std::vector<std::string>> FileSource::List(const Uri& folder,
                                                          const ReadPolicy& policy,
                                                          Cancellation& cancellation) {
  RETURN_IF_ERROR(cancellation.status());
  ASSIGN_OR_RETURN(const Fd located, Locate(folder, options_.roots, policy));
  Fd readable(open(absl::StrCat("/proc/self/fd/", located.get()).c_str(),
                   O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!readable.valid()) {
    return ErrnoError(errno, folder.Redacted());
  }
  DIR* const entries = fdopendir(readable.get());
  if (entries == nullptr) {
    return ErrnoError(errno, folder.Redacted());
  }
  readable.Release();
  std::vector<std::string> candidates;
  // An error would look like the folder's end.
  for (errno = 0; const dirent* const entry = readdir(entries); errno = 0) {
    if (entry->d_type == DT_REG || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) {
      candidates.emplace_back(entry->d_name);
    }
  }
  const int error = errno;
  closedir(entries);
  if (error != 0) {
    return ErrnoError(error, folder.Redacted());
  }
  std::vector<std::string> names;
  for (std::string& name : candidates) {
    const absl::StatusOr<Uri> entry = folder.Child(name);
    if (!entry.ok() || !LeadsToOther(*entry, policy)) {
      names.push_back(std::move(name));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<FileSet> FileSource::OpenAll(absl::Span<const ReadRequest> requests,
                                            const ReadPolicy& policy) const {
  FileSet set;
  for (const ReadRequest& request : requests) {
    if (!set.index.emplace(request.object, set.files.size()).second) {
      continue;
    }
    const Uri& uri = request.object->uri;
    ASSIGN_OR_RETURN(const Fd located, Locate(uri, options_.roots, policy));
    RETURN_IF_ERROR(CheckUnchanged(located, *request.object));
    ASSIGN_OR_RETURN(OpenedFile file, OpenLocated(located, uri, options_.direct_io));
    set.files.push_back(std::move(file));
    set.versions.push_back(request.object);
  }
  return set;
}

absl::Status FileSource::ReadAll(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                                 const ReadObserver& observer, Cancellation& cancellation) const {
  ASSIGN_OR_RETURN(const FileSet set, OpenAll(requests, policy));
  Progress progress(observer, options_.traffic, requests.size());
  std::vector<ReadStep> steps;
  for (uint32_t i = 0; i < requests.size(); ++i) {
    const uint32_t file = set.index.at(requests[i].object);
    const size_t before = steps.size();
    PlanSteps(file, i, requests[i].range, requests[i].destination, set.files[file].alignment,
              steps);
    progress.Expect(i, steps.size() - before);
    if (steps.size() == before) {
      observer.on_request_done(i);
    }
  }
  RETURN_IF_ERROR(Carry({.files = set.files,
                         .steps = steps,
                         .on_done = [&](const ReadStep& step) { progress.Done(step); },
                         .cancellation = &cancellation}));
  for (size_t i = 0; i < set.files.size(); ++i) {
    RETURN_IF_ERROR(CheckUnchanged(set.files[i].fd, *set.versions[i]));
  }
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Source> MakeFileSource(FileSourceOptions options) {
  return std::make_unique<FileSource>(std::move(options));
}

}  // namespace weightd::source
