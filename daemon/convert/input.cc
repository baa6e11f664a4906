#include "daemon/convert/input.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/shard_index.h"
#include "daemon/pipeline/read_headers.h"
#include "daemon/pipeline/resolve.h"

namespace weightd::convert {

std::map<std::string, std::string> Input::Metadata() const {
  std::map<std::string, std::string> metadata;
  for (const format::FileHeader& header : headers) {
    metadata.insert(header.metadata.begin(), header.metadata.end());
  }
  return metadata;
}

absl::StatusOr<Input> OpenInput(const source::Registry& sources, const Uri& uri,
                                const std::optional<pipeline::ModelKey>& key, bool unpinned,
                                Cancellation& cancellation) {
  Input input;
  input.policy = {.any_path = true, .any_address = true, .unpinned = true};
  ASSIGN_OR_RETURN(input.source, sources.For(uri));
  ASSIGN_OR_RETURN(input.model,
                   pipeline::ResolveModel(*input.source, uri, input.policy, cancellation));
  if (!input.model.pinned_to_version && !unpinned) {
    return Error(Reason::kNotAllowed,
                 absl::StrCat(uri.Redacted(),
                              ": its server doesn't say which version of a file it "
                              "sends (no strong ETag): bytes of two could be mixed"),
                 "fetch it to a local file, or say --unpinned if nobody writes to it");
  }
  pipeline::HeaderOptions options;
  options.ctr_key = pipeline::CtrKeyOf(key);
  ASSIGN_OR_RETURN(input.headers, pipeline::ReadHeaders(*input.source, input.model.files,
                                                        input.policy, cancellation, options));
  if (!input.model.shard_index.empty()) {
    ASSIGN_OR_RETURN(const format::ShardIndex index,
                     format::ParseShardIndex(input.model.shard_index, format::kShardIndexName));
    RETURN_IF_ERROR(format::CheckShards(index, input.headers, format::kShardIndexName));
  }
  return input;
}

absl::Status CheckKey(const Input& input, const pipeline::TensorKeys& keys) {
  const auto encrypted = std::find_if(input.headers.begin(), input.headers.end(),
                                      [](const auto& header) { return header.encrypted(); });
  if (encrypted != input.headers.end() && !keys.given()) {
    const auto file = static_cast<size_t>(encrypted - input.headers.begin());
    return Error(Reason::kKeyMissing,
                 absl::StrCat(input.model.files[file].name, " is encrypted, and no key was given"),
                 "name its key's or password's file with --key");
  }
  if (encrypted == input.headers.end() && keys.given()) {
    return Error(Reason::kKeyRefused,
                 absl::StrCat(input.model.uri.Redacted(),
                              ": a key was given, but no file is "
                              "encrypted"),
                 "leave --key out, or find out who stored it in clear");
  }
  for (size_t file = 0; file < input.headers.size(); ++file) {
    const format::FileHeader& header = input.headers[file];
    if (keys.ctr().has_value() && header.encrypted() && !header.ctr.has_value()) {
      return Error(Reason::kKeyRefused,
                   absl::StrCat(input.model.files[file].name,
                                " is encrypted as tensorizer does it, and the key is one of "
                                "AES-CTR"),
                   "leave aes-ctr- out of --key");
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::convert
