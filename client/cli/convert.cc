#include "client/cli/convert.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/key_option.h"
#include "client/cli/push.h"
#include "common/dtype.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/convert/output_file.h"

namespace weightd::cli {
namespace {

namespace fs = std::filesystem;

absl::Status Misused(absl::string_view option, absl::string_view what, absl::string_view hint) {
  return Error(Reason::kInvalidArgument, absl::StrCat(option, ": ", what), hint);
}

// A path, or an s3:// address; of a file: URI its path.
absl::StatusOr<std::string> OutputOf(const std::string& given) {
  if (absl::StartsWith(given, "file:")) {
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(given));
    return uri.path();
  }
  if (absl::StrContains(given, "://") && !absl::StartsWith(given, "s3://")) {
    return Misused("OUT", absl::StrCat(given, " can't be written to"),
                   "give a path, or an s3:// address");
  }
  return given;
}

// A path of a shell's user becomes a file: URI.
absl::StatusOr<Uri> InputOf(const std::string& given) {
  if (absl::StrContains(given, "://") || absl::StartsWith(given, "file:")) {
    return Uri::Parse(given);
  }
  std::error_code error;
  std::string path = fs::absolute(given, error).lexically_normal().string();
  if (fs::is_directory(path, error) && !absl::EndsWith(path, "/")) {
    path += '/';
  }
  return Uri::Parse(path);
}

absl::StatusOr<convert::OutputFormat> FormatOf(const ConvertArguments& arguments) {
  const std::string& name = arguments.output;
  if (arguments.format == "tensorizer" ||
      (arguments.format.empty() && absl::EndsWith(name, ".tensors"))) {
    return convert::OutputFormat::kTensorizer;
  }
  if (arguments.format == "safetensors" || arguments.shard_bytes > 0 ||
      absl::EndsWith(name, ".safetensors")) {
    return convert::OutputFormat::kSafetensors;
  }
  return Misused("OUT", absl::StrCat(name, " ends with neither .safetensors nor .tensors"),
                 "name a file that does, or say --format, or --shard-size for a folder");
}

std::optional<DType> CastOf(const std::string& dtype) {
  return dtype == "bf16"  ? std::optional(DType::kBf16)
         : dtype == "f16" ? std::optional(DType::kF16)
         : dtype == "f32" ? std::optional(DType::kF32)
                          : std::nullopt;
}

pipeline::VerifyPolicy PolicyOf(const std::string& verify) {
  return verify == "full"    ? pipeline::VerifyPolicy::kFull
         : verify == "never" ? pipeline::VerifyPolicy::kNever
                             : pipeline::VerifyPolicy::kFast;
}

absl::StatusOr<convert::ConvertRequest> RequestOf(const ConvertArguments& arguments) {
  convert::ConvertRequest request;
  ASSIGN_OR_RETURN(request.input, InputOf(arguments.input));
  ASSIGN_OR_RETURN(request.output, OutputOf(arguments.output));
  ASSIGN_OR_RETURN(request.options.format, FormatOf(arguments));
  request.options.shard_bytes = arguments.shard_bytes;
  request.options.cast = CastOf(arguments.dtype);
  ASSIGN_OR_RETURN(request.key, ReadInputKey(arguments.key, arguments.iv));
  ASSIGN_OR_RETURN(request.encrypt, ReadKeyOption("--encrypt", arguments.encrypt));
  request.verify = PolicyOf(arguments.verify);
  request.unpinned = arguments.unpinned;
  return request;
}

// A new folder, which goes with this and all that is in it.
class TemporaryFolder {
 public:
  static absl::StatusOr<TemporaryFolder> Make() {
    std::error_code error;
    std::string path = (fs::temp_directory_path(error) / "weightctl.XXXXXX").string();
    if (error || mkdtemp(path.data()) == nullptr) {
      return Annotate(convert::CantWrite(error ? error.value() : errno, path),
                      "the folder for temporary files (TMPDIR)");
    }
    return TemporaryFolder(std::move(path));
  }
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace

absl::StatusOr<ConvertResult> ConvertModel(const ConvertArguments& arguments,
                                           convert::Report report, Cancellation& cancellation) {
  ASSIGN_OR_RETURN(convert::ConvertRequest request, RequestOf(arguments));
  ASSIGN_OR_RETURN(const source::Registry sources, MakeSources(arguments.store));
  ConvertResult result = {arguments.output, {}};
  if (!absl::StartsWith(arguments.output, "s3://")) {
    ASSIGN_OR_RETURN(result.files, convert::Convert(sources, request, report, cancellation));
    return result;
  }
  ASSIGN_OR_RETURN(const Uri target, Uri::Parse(arguments.output));
  if (absl::EndsWith(arguments.output, "/") && arguments.shard_bytes == 0) {
    return Misused("OUT", absl::StrCat(arguments.output, " is a folder"),
                   "name the object, or say --shard-size");
  }
  PushRequest push;
  push.target = arguments.output;
  if (arguments.shard_bytes > 0 && !absl::EndsWith(push.target, "/")) {
    push.target += '/';
  }
  push.store = arguments.store;
  RETURN_IF_ERROR(TryTarget(push, cancellation));
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
  const std::string name = fs::path(target.path()).filename().string();
  request.output = absl::StrCat(folder.path(), "/", name.empty() ? "model" : name);
  ASSIGN_OR_RETURN(result.files, convert::Convert(sources, request, report, cancellation));
  push.path = request.output;
  ASSIGN_OR_RETURN(const PushResult pushed,
                   Push(push, [](const source::UploadProgress&) {}, cancellation));
  result.target = pushed.target.Redacted();
  for (convert::ConvertedFile& file : result.files) {
    const std::string in_folder = file.path.substr(request.output.size());
    file.path = absl::StrCat(result.target, absl::StripPrefix(in_folder, "/"));
  }
  return result;
}

absl::StatusOr<std::vector<convert::VerifiedTensor>> VerifyInput(const ConvertArguments& arguments,
                                                                 convert::Report report,
                                                                 Cancellation& cancellation) {
  convert::VerifyRequest request;
  ASSIGN_OR_RETURN(request.input, InputOf(arguments.input));
  ASSIGN_OR_RETURN(request.key, ReadInputKey(arguments.key, arguments.iv));
  request.unpinned = arguments.unpinned;
  ASSIGN_OR_RETURN(const source::Registry sources, MakeSources(arguments.store));
  return convert::VerifyModel(sources, request, report, cancellation);
}

}  // namespace weightd::cli
