#include "client/cli/inspect.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/convert/input.h"
#include "daemon/format/shard_index.h"

namespace weightd::cli {
namespace {

struct OpenFile {
  Fd fd;
  uint64_t size = 0;
};

absl::StatusOr<OpenFile> Open(const std::string& path) {
  // Non-blocking: a FIFO must not hold us up.
  OpenFile file{Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), 0};
  struct stat info{};
  if (!file.fd.valid() || fstat(file.fd.get(), &info) != 0) {
    return ErrnoError(errno, path);
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(Reason::kMalformedModel, absl::StrCat(path, " is not a regular file"),
                 "name a weight file, or a folder of them");
  }
  file.size = static_cast<uint64_t>(info.st_size);
  return file;
}

absl::StatusOr<std::string> ReadRange(const OpenFile& file, const std::string& path,
                                      ByteRange range) {
  std::string bytes(range.size(), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = pread(file.fd.get(), bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(range.begin + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, absl::StrCat("read ", path));
    }
    if (count == 0) {
      return Error(Reason::kSourceChanged, absl::StrCat(path, " became shorter while it was read"));
    }
    done += static_cast<size_t>(count);
  }
  return bytes;
}

absl::StatusOr<format::FileHeader> ReadHeaderOf(const std::string& path) {
  ASSIGN_OR_RETURN(const OpenFile file, Open(path));
  return format::ReadHeader(path, file.size,
                            [&](ByteRange range) { return ReadRange(file, path, range); });
}

void Append(format::FileHeader header, const std::string& file, InspectedModel& model) {
  for (format::TensorEntry& tensor : header.tensors) {
    model.tensors.push_back({std::move(tensor), file});
  }
  model.metadata.merge(header.metadata);
}

// Names of the files to read, in the index's order; with the check that they agree with it left to
// the caller.
absl::StatusOr<std::string> OnlyWeightFile(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".safetensors") {
      found.push_back(it->path().filename().string());
    }
  }
  if (error) {
    return ErrnoError(error.value(), folder);
  }
  if (found.size() == 1) {
    return found.front();
  }
  return Error(Reason::kModelNotFound,
               absl::StrCat(folder, " holds no ", absl::string_view(format::kShardIndexName),
                            " and ", found.size(), " .safetensors files"),
               "name one weight file");
}

absl::StatusOr<InspectedModel> InspectFolder(const std::string& folder) {
  InspectedModel model;
  const std::string index_path = absl::StrCat(folder, "/", format::kShardIndexName);
  if (access(index_path.c_str(), F_OK) != 0) {
    ASSIGN_OR_RETURN(const std::string name, OnlyWeightFile(folder));
    ASSIGN_OR_RETURN(format::FileHeader header, ReadHeaderOf(absl::StrCat(folder, "/", name)));
    Append(std::move(header), name, model);
    return model;
  }
  ASSIGN_OR_RETURN(const OpenFile file, Open(index_path));
  if (file.size > format::kMaxShardIndexBytes) {
    return Error(Reason::kMalformedModel, absl::StrCat(index_path, " is larger than ",
                                                       format::kMaxShardIndexBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(const std::string json, ReadRange(file, index_path, {0, file.size}));
  ASSIGN_OR_RETURN(const format::ShardIndex index, format::ParseShardIndex(json, index_path));
  std::vector<format::FileHeader> headers;
  for (const std::string& name : index.files) {
    ASSIGN_OR_RETURN(format::FileHeader header, ReadHeaderOf(absl::StrCat(folder, "/", name)));
    headers.push_back(std::move(header));
  }
  RETURN_IF_ERROR(format::CheckShards(index, headers, index_path));
  for (size_t i = 0; i < headers.size(); ++i) {
    Append(std::move(headers[i]), index.files[i], model);
  }
  return model;
}

}  // namespace

absl::string_view TypeNameOf(const format::TensorEntry& entry) {
  return entry.torch_type.empty() ? DTypeName(entry.dtype) : absl::string_view(entry.torch_type);
}

absl::StatusOr<InspectedModel> InspectPath(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return InspectFolder(path);
  }
  InspectedModel model;
  ASSIGN_OR_RETURN(format::FileHeader header, ReadHeaderOf(path));
  Append(std::move(header), "", model);
  return model;
}

absl::StatusOr<InspectedModel> InspectUri(const source::Registry& sources, const Uri& uri,
                                          Cancellation& cancellation) {
  // What is shown is of one moment, whether or not a server tells versions apart.
  ASSIGN_OR_RETURN(convert::Input input, convert::OpenInput(sources, uri, /*key=*/std::nullopt,
                                                            /*unpinned=*/true, cancellation));
  const bool single = input.model.files.size() == 1 && input.model.files[0].name == uri.FileName();
  InspectedModel model;
  for (size_t i = 0; i < input.headers.size(); ++i) {
    Append(std::move(input.headers[i]), single ? "" : input.model.files[i].name, model);
  }
  return model;
}

}  // namespace weightd::cli
