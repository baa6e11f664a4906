#include "client/cli/convert.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/push.h"
#include "common/dtype.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/pipeline/read_key.h"

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

absl::StatusOr<std::optional<pipeline::ModelKey>> KeyOf(absl::string_view option,
                                                        const std::string& given) {
  if (given.empty()) {
    return std::nullopt;
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(given, absl::MaxSplits('=', 1));
  const auto& [kind, value] = parts;
  pipeline::KeyPlace place;
  if (kind == "key-file") {
    place.key_file = value;
  } else if (kind == "password-file") {
    place.password_file = value;
  } else if (kind == "key-env") {
    place.key_env = value;
  } else if (kind == "password-env") {
    place.password_env = value;
  }
  if (value.empty() || place == pipeline::KeyPlace()) {
    // Whoever gave the secret itself must not find it in a log.
    return Misused(option, "doesn't say where the secret is",
                   "say key-file=PATH, password-file=PATH, key-env=NAME or password-env=NAME");
  }
  return pipeline::ReadKey(place);
}

// What opens the input.
absl::StatusOr<std::optional<pipeline::ModelKey>> InputKeyOf(const ConvertArguments& arguments) {
  absl::string_view given = arguments.key;
  if (!absl::ConsumePrefix(&given, "aes-ctr-")) {
    if (!arguments.iv.empty()) {
      return Misused("--iv", "only AES-CTR has one, and --key names no key of it",
                     "say --key aes-ctr-key-file=PATH or aes-ctr-key-env=NAME, or leave --iv out");
    }
    return KeyOf("--key", arguments.key);
  }
  pipeline::KeyPlace place;
  place.aes_ctr = true;
  place.iv = arguments.iv;
  if (absl::ConsumePrefix(&given, "key-file=")) {
    place.key_file = std::string(given);
  } else if (absl::ConsumePrefix(&given, "key-env=")) {
    place.key_env = std::string(given);
  }
  if (place.key_file.empty() && place.key_env.empty()) {
    return Misused("--key", "doesn't say where the key is",
                   "say aes-ctr-key-file=PATH or aes-ctr-key-env=NAME");
  }
  return pipeline::ReadKey(place);
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
  ASSIGN_OR_RETURN(request.key, InputKeyOf(arguments));
  ASSIGN_OR_RETURN(request.encrypt, KeyOf("--encrypt", arguments.encrypt));
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
      return ErrnoError(error ? error.value() : errno, absl::StrCat("make the folder ", path));
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
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
  const std::string name = fs::path(target.path()).filename().string();
  request.output = absl::StrCat(folder.path(), "/", name.empty() ? "model" : name);
  ASSIGN_OR_RETURN(result.files, convert::Convert(sources, request, report, cancellation));
  PushRequest push;
  push.path = request.output;
  push.target = arguments.output;
  if (arguments.shard_bytes > 0 && !absl::EndsWith(push.target, "/")) {
    push.target += '/';
  }
  push.store = arguments.store;
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
  ASSIGN_OR_RETURN(request.key, InputKeyOf(arguments));
  request.unpinned = arguments.unpinned;
  ASSIGN_OR_RETURN(const source::Registry sources, MakeSources(arguments.store));
  return convert::VerifyModel(sources, request, report, cancellation);
}

}  // namespace weightd::cli
