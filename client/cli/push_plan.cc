#include "client/cli/push_plan.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/inspect.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/format/shard_index.h"

namespace weightd::cli {
namespace {

namespace fs = std::filesystem;
using source::FileToUpload;
using Role = FileToUpload::Role;

// More than any model has; a mistyped home folder has more.
constexpr size_t kMostFiles = 20'000;
constexpr int kDeepestFolder = 16;

Role RoleOf(absl::string_view name) {
  return name == format::kShardIndexName                                            ? Role::kIndex
         : absl::EndsWith(name, ".safetensors") || absl::EndsWith(name, ".tensors") ? Role::kWeights
                                                                                    : Role::kOther;
}

// Why there is nothing to be looked at.
absl::Status LookError(const fs::path& path, const std::error_code& error) {
  std::error_code ignored;
  const bool loop = error == std::errc::too_many_symbolic_link_levels;
  const bool dangling =
      error == std::errc::no_such_file_or_directory && fs::is_symlink(path, ignored);
  if (!loop && !dangling) {
    return ErrnoError(error.value(), path.string());
  }
  return Error(Reason::kModelNotFound,
               absl::StrCat(path.string(), loop ? ": links that lead in a circle"
                                                : " is a link that leads nowhere"),
               "remove the link, or let it lead to a file");
}

// Where the file at `path` goes.
absl::StatusOr<Uri> ObjectOf(const Uri& folder, const std::string& name, const fs::path& path) {
  absl::StatusOr<Uri> object = folder.Child(name);
  if (object.ok() && !FirstInvalidUtf8(name).has_value()) {
    return object;
  }
  return Error(Reason::kInvalidArgument,
               absl::StrCat(PrintableText(path.string()), " has a name that no object can have"),
               "rename it: UTF-8 without control characters and backslashes");
}

// Collects the files of a folder: paths relative to it.
class Walk {
 public:
  Walk(const fs::path& root, bool follow_links) : root_(root), follow_links_(follow_links) {}

  absl::StatusOr<std::vector<std::string>> Run() {
    std::error_code error;
    real_root_ = fs::canonical(root_, error);
    if (error) {
      return ErrnoError(error.value(), root_.string());
    }
    RETURN_IF_ERROR(Enter("", 0));
    std::sort(found_.begin(), found_.end());
    return std::move(found_);
  }

 private:
  absl::Status Enter(const fs::path& below, int depth) {
    std::error_code error;
    for (fs::directory_iterator it(root_ / below, error), end; !error && it != end;
         it.increment(error)) {
      RETURN_IF_ERROR(Take(below / it->path().filename(), depth));
    }
    return error ? ErrnoError(error.value(), (root_ / below).string()) : absl::OkStatus();
  }

  absl::Status Take(const fs::path& below, int depth) {
    if (absl::StartsWith(below.filename().string(), ".")) {
      return absl::OkStatus();
    }
    const fs::path path = root_ / below;
    std::error_code error;
    const bool is_link = fs::is_symlink(path, error);
    const fs::file_status status = fs::status(path, error);
    if (error) {
      return LookError(path, error);
    }
    if (is_link) {
      RETURN_IF_ERROR(CheckLink(path, fs::is_directory(status)));
    }
    if (fs::is_directory(status)) {
      return depth < kDeepestFolder ? Enter(below, depth + 1)
                                    : Refusal(path, "lies deeper than 16 folders", "");
    }
    if (!fs::is_regular_file(status)) {
      return Refusal(path, "is neither a file nor a folder", "remove it");
    }
    if (found_.size() == kMostFiles) {
      return Refusal(root_, "holds more than 20,000 files", "name the folder of one model");
    }
    found_.push_back(below.string());
    return absl::OkStatus();
  }

  absl::Status CheckLink(const fs::path& path, bool to_folder) {
    if (to_folder) {
      return Refusal(path, "is a link to a folder", "put the folder there, or name it itself");
    }
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    const auto [end, ignored] =
        std::mismatch(real_root_.begin(), real_root_.end(), real.begin(), real.end());
    if (error || (end != real_root_.end() && !follow_links_)) {
      return Refusal(path, "is a link that leads out of the folder",
                     "push what it leads to with --follow-links");
    }
    return absl::OkStatus();
  }

  static absl::Status Refusal(const fs::path& path, absl::string_view what,
                              absl::string_view hint) {
    return Error(Reason::kInvalidArgument, absl::StrCat(path.string(), " ", what), hint);
  }

  const fs::path root_;
  const bool follow_links_;
  fs::path real_root_;
  std::vector<std::string> found_;
};

// The folder of an object, with its slash.
absl::StatusOr<Uri> FolderOf(const Uri& object) {
  const std::string& path = object.path();
  return Uri::Parse(absl::StrCat("s3://", object.authority(), path.substr(0, path.rfind('/') + 1)));
}

// The objects that an index names. A name that no URI has is no object that can be pushed.
template <typename Names>
absl::StatusOr<std::vector<Uri>> ObjectsOf(const Uri& index, const Names& names) {
  ASSIGN_OR_RETURN(const Uri folder, FolderOf(index));
  std::vector<Uri> objects;
  for (const std::string& name : names) {
    if (absl::StatusOr<Uri> object = folder.Child(name); object.ok()) {
      objects.push_back(*std::move(object));
    }
  }
  return objects;
}

absl::StatusOr<std::vector<Uri>> ParseStoredIndex(const Uri& index, absl::string_view bytes) {
  ASSIGN_OR_RETURN(const format::ShardIndex parsed,
                   format::ParseShardIndex(bytes, format::kShardIndexName));
  return ObjectsOf(index, parsed.files);
}

// In the folders of these weights and all above, but for those that are pushed or must not be
// there.
absl::StatusOr<std::vector<Uri>> OtherIndexes(const PushPlan& plan) {
  std::set<std::string> minded;
  for (const Uri& index : plan.stored.must_be_absent) {
    minded.insert(index.path());
  }
  for (const FileToUpload& file : plan.files) {
    minded.insert(file.object.path());
  }
  std::vector<Uri> others;
  std::set<std::string> folders;
  for (const FileToUpload& file : plan.files) {
    std::string folder = file.object.path();
    while (file.role == Role::kWeights && folder != "/") {
      folder.resize(folder.rfind('/', folder.size() - 2) + 1);
      if (!folders.insert(folder).second) {
        break;
      }
      const std::string index = absl::StrCat(folder, format::kShardIndexName);
      if (!minded.contains(index)) {
        ASSIGN_OR_RETURN(Uri uri,
                         Uri::Parse(absl::StrCat("s3://", file.object.authority(), index)));
        others.push_back(std::move(uri));
      }
    }
  }
  return others;
}

// The files that the index of `folder` names, all of which are uploaded.
absl::StatusOr<std::set<std::string>> CheckIndexed(const std::string& folder,
                                                   const std::set<std::string>& uploaded) {
  ASSIGN_OR_RETURN(const InspectedModel model, InspectPath(folder));
  std::set<std::string> names;
  for (const InspectedTensor& tensor : model.tensors) {
    if (!names.insert(tensor.file).second) {
      continue;
    }
    const std::string path = (fs::path(folder) / tensor.file).lexically_normal().string();
    if (!uploaded.contains(path)) {
      return Error(Reason::kMalformedModel,
                   absl::StrCat(path, " is named by the index and would not be pushed"),
                   "shards have to be visible files of the folder");
    }
  }
  return names;
}

// Before a byte moves: whether the daemon would take what is pushed. Fills in what indexes name.
absl::Status Check(std::vector<FileToUpload>& files) {
  std::set<std::string> paths;
  for (const FileToUpload& file : files) {
    paths.insert(fs::path(file.path).lexically_normal().string());
  }
  for (FileToUpload& file : files) {
    if (file.role == Role::kWeights) {
      RETURN_IF_ERROR(InspectPath(file.path).status());
    } else if (file.role == Role::kIndex) {
      ASSIGN_OR_RETURN(const std::set<std::string> names,
                       CheckIndexed(fs::path(file.path).parent_path().string(), paths));
      ASSIGN_OR_RETURN(file.names, ObjectsOf(file.object, names));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<PushPlan> PlanFile(const std::string& path, Uri target) {
  const std::string name = fs::path(path).filename().string();
  if (target.IsFolder()) {
    ASSIGN_OR_RETURN(target, ObjectOf(target, name, path));
  }
  if (RoleOf(target.FileName()) == Role::kIndex) {
    return Error(Reason::kInvalidArgument, absl::StrCat(path, " is an index without its shards"),
                 "push the folder");
  }
  PushPlan plan;
  plan.target = target;
  // Readers go by the object's name; the file of a model may have another.
  const Role role = RoleOf(target.FileName());
  plan.files.push_back({path, std::move(target), role == Role::kOther ? RoleOf(name) : role});
  return plan;
}

absl::StatusOr<PushPlan> PlanFolder(const std::string& path, Uri target, bool follow_links) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, Walk(path, follow_links).Run());
  if (names.empty()) {
    return Error(Reason::kModelNotFound, absl::StrCat(path, " holds no files"),
                 "name the folder of a model");
  }
  PushPlan plan;
  plan.target = std::move(target);
  // By folder, whether it has an index; only those with weights.
  std::map<std::string, bool> indexed;
  for (const std::string& name : names) {
    const fs::path below(name);
    ASSIGN_OR_RETURN(Uri object, ObjectOf(plan.target, name, path / below));
    const Role role = RoleOf(below.filename().string());
    if (role != Role::kOther) {
      indexed[below.parent_path().string()] |= role == Role::kIndex;
    }
    plan.files.push_back({(fs::path(path) / below).string(), std::move(object), role});
  }
  for (const auto& [folder, has_index] : indexed) {
    if (!has_index) {
      const fs::path index = fs::path(folder) / std::string(format::kShardIndexName);
      ASSIGN_OR_RETURN(Uri object, plan.target.Child(index.string()));
      plan.stored.must_be_absent.push_back(std::move(object));
    }
  }
  return plan;
}

}  // namespace

absl::StatusOr<Uri> ParseTarget(absl::string_view text) {
  ASSIGN_OR_RETURN(Uri uri, Uri::Parse(text));
  if (uri.scheme() != "s3" || !uri.query().empty()) {
    return Error(Reason::kInvalidUri,
                 absl::StrCat(uri.Redacted(), ": not a place that can be pushed to"),
                 "write s3://bucket/folder/ or s3://bucket/folder/name");
  }
  return uri;
}

absl::StatusOr<PushPlan> PlanPush(const std::string& path, absl::string_view target,
                                  bool follow_links) {
  ASSIGN_OR_RETURN(Uri uri, ParseTarget(target));
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error) {
    return LookError(path, error);
  }
  ASSIGN_OR_RETURN(PushPlan plan, fs::is_directory(status)
                                      ? PlanFolder(path, std::move(uri), follow_links)
                                      : PlanFile(path, std::move(uri)));
  RETURN_IF_ERROR(Check(plan.files));
  ASSIGN_OR_RETURN(plan.stored.others, OtherIndexes(plan));
  plan.stored.parse = ParseStoredIndex;
  plan.stored.most_bytes = format::kMaxShardIndexBytes;
  return plan;
}

}  // namespace weightd::cli
