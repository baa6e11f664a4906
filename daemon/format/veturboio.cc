#include "daemon/format/veturboio.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/malformed.h"
#include "daemon/format/safetensors.h"

namespace weightd::format {
namespace {

// 16 bytes in base64, with its padding.
constexpr size_t kIvDigits = 24;

absl::Span<std::byte> BytesOf(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

absl::StatusOr<size_t> ReadMode(JsonReader& json) {
  ASSIGN_OR_RETURN(const absl::string_view mode, json.ReadString());
  if (mode == "CTR-128") {
    return 16;
  }
  if (mode == "CTR-256") {
    return 32;
  }
  return json.ErrorAt(json.key_offset(),
                      absl::StrCat("mode ", Quoted(mode), " is neither CTR-128 nor CTR-256"));
}

absl::StatusOr<std::string> ReadIv(JsonReader& json) {
  ASSIGN_OR_RETURN(const absl::string_view digits, json.ReadString());
  std::string iv;
  if (digits.size() != kIvDigits || !absl::Base64Unescape(digits, &iv) ||
      iv.size() != kCtrIvBytes) {
    return json.ErrorAt(json.key_offset(), "iv is not 16 bytes in base64");
  }
  return iv;
}

absl::Status NotOpened(absl::string_view file_name) {
  return Error(Reason::kKeyRefused,
               absl::StrCat(file_name,
                            ": decrypted, it doesn't begin as a safetensors file: the "
                            "key or IV isn't the file's, or it is damaged"),
               "give the key and IV that it was encrypted with");
}

}  // namespace

absl::StatusOr<VeturboioHeader> ParseVeturboioHeader(absl::string_view bytes,
                                                     absl::string_view file_name) {
  const absl::string_view rest = bytes.substr(kVeturboioMagic.size());
  const size_t zero = rest.find('\0');
  if (zero == absl::string_view::npos) {
    return MalformedAt(file_name, kVeturboioMagic.size(), "no zero byte ends veTurboIO's header");
  }
  ASSIGN_OR_RETURN(JsonReader json,
                   JsonReader::Open(rest.substr(0, zero), file_name, kVeturboioMagic.size()));
  VeturboioHeader header;
  RETURN_IF_ERROR(json.ReadObject([&](absl::string_view key) -> absl::Status {
    const uint64_t key_offset = json.key_offset();
    bool repeated = false;
    if (key == "mode") {
      repeated = header.key_bytes != 0;
      ASSIGN_OR_RETURN(header.key_bytes, ReadMode(json));
    } else if (key == "iv") {
      repeated = !header.iv.empty();
      ASSIGN_OR_RETURN(header.iv, ReadIv(json));
    } else {
      return json.Skip();
    }
    return repeated ? json.ErrorAt(key_offset, "a field of veTurboIO's header stands twice")
                    : absl::OkStatus();
  }));
  RETURN_IF_ERROR(json.Finish());
  if (header.key_bytes == 0) {
    return MalformedAt(file_name, kVeturboioMagic.size(), "veTurboIO's header has no mode");
  }
  return header;
}

absl::StatusOr<FileHeader> ReadVeturboioHeader(absl::string_view file_name, uint64_t file_size,
                                               HeaderReader read,
                                               const std::optional<CtrKey>& key) {
  if (!key.has_value()) {
    return Error(Reason::kKeyMissing,
                 absl::StrCat(file_name,
                              " is encrypted (veTurboIO's AES-CTR), and there is no "
                              "key of that cipher for it"),
                 "name its key under `keys` in the daemon's config with `cipher: aes-ctr`, or to "
                 "weightctl convert or verify with --key aes-ctr-key-file=PATH");
  }
  if (file_size < kVeturboioHeaderBytes) {
    return MalformedAt(file_name, file_size,
                       absl::StrCat("the file ends within veTurboIO's header of ",
                                    kVeturboioHeaderBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(const std::string rest, read({kVeturboioMagic.size(), kVeturboioHeaderBytes}));
  ASSIGN_OR_RETURN(VeturboioHeader header,
                   ParseVeturboioHeader(absl::StrCat(kVeturboioMagic, rest), file_name));
  const size_t key_bytes = key->key.bytes().size();
  if (header.key_bytes != key_bytes) {
    return Error(Reason::kKeyRefused,
                 absl::StrCat(file_name, ": its header says CTR-", 8 * header.key_bytes,
                              ", which takes a key of ", header.key_bytes,
                              " bytes, but the key for it has ", key_bytes),
                 "give the key that it was encrypted with");
  }
  CtrKey own = *key;
  if (!header.iv.empty()) {
    own.iv = std::move(header.iv);
  }
  return ReadCtrHeader(file_name, file_size, kVeturboioHeaderBytes, "", read, own);
}

absl::StatusOr<FileHeader> ReadCtrHeader(absl::string_view file_name, uint64_t file_size,
                                         uint64_t begin, std::string known, HeaderReader read,
                                         const CtrKey& key) {
  if (key.iv.empty()) {
    return Error(Reason::kKeyMissing,
                 absl::StrCat(file_name,
                              " doesn't say the IV that it was encrypted with, and "
                              "none is given"),
                 "give it beside the key: `iv` in the daemon's config, --iv to weightctl");
  }
  // Offsets in errors are those of what was decrypted.
  const std::string name = absl::StrCat(file_name, ", decrypted");
  const uint64_t size = file_size - begin;
  const auto read_to = [&](uint64_t end) -> absl::Status {
    if (known.size() < std::min(end, size)) {
      ASSIGN_OR_RETURN(const std::string more,
                       read({begin + known.size(), begin + std::min(end, size)}));
      known += more;
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read_to(kSafetensorsPrefixBytes));
  std::string prefix = known.substr(0, kSafetensorsPrefixBytes);
  RETURN_IF_ERROR(ApplyAesCtr(key.key, key.iv, 0, BytesOf(prefix)));
  const absl::StatusOr<ByteRange> range = SafetensorsHeaderRange(prefix, size, name);
  if (!range.ok()) {
    return size < kSafetensorsPrefixBytes ? range.status() : NotOpened(file_name);
  }
  RETURN_IF_ERROR(read_to(range->end));
  std::string json = known.substr(range->begin, range->size());
  RETURN_IF_ERROR(ApplyAesCtr(key.key, key.iv, range->begin, BytesOf(json)));
  absl::StatusOr<FileHeader> header = ParseSafetensorsHeader(json, size, name);
  if (!header.ok()) {
    // With another key, one file in 256 would begin so; and its length would hardly fit.
    return absl::StartsWith(json, "{") ? header.status() : NotOpened(file_name);
  }
  for (TensorEntry& tensor : header->tensors) {
    tensor.bytes.begin += begin;
    tensor.bytes.end += begin;
  }
  header->header_bytes = begin + range->end;
  header->ctr = CtrTraits{.begin = begin, .iv = key.iv};
  return header;
}

}  // namespace weightd::format
