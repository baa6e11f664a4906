#ifndef WEIGHTD_DAEMON_FORMAT_HEADER_H_
#define WEIGHTD_DAEMON_FORMAT_HEADER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "daemon/format/aes_ctr.h"

namespace weightd::format {

// What a tensor was in the module that a tensorizer file was made of. The values are the format's.
enum class TensorKind : uint8_t {
  kParameter = 0,
  kBuffer = 1,
  kStateDict = 2,
};

// How a tensorizer file holds a tensor: behind a header of its own, which says more of its bytes
// (tensorizer_record.h).
struct RecordPlace {
  // Of the record's header; ends where the tensor's bytes begin.
  ByteRange header;
  TensorKind kind = TensorKind::kStateDict;
  // Extents are written with 64 bits, not 32.
  bool wide_shape = false;

  bool operator==(const RecordPlace&) const = default;
};

// One tensor of a file: checked, so that `bytes` lies in the file and has the size that dtype and
// shape give.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kU8;
  // torch's name ("bits16") of an element type that DType can't tell; `dtype` is then an integer of
  // the same size. Else empty.
  std::string torch_type = {};
  // Extents, outermost first; empty for a scalar.
  std::vector<uint64_t> shape;
  // Where its bytes lie, counted from the file's first byte. Empty for a tensor of no elements, and
  // for one of zeros that the file doesn't store.
  ByteRange bytes;
  // What dtype and shape give: bytes.size(), unless the file doesn't store the zeros.
  uint64_t nbytes = 0;
  // In a tensorizer file.
  std::optional<RecordPlace> record = {};
};

// What all records of a tensorizer file have in common.
struct TensorizerTraits {
  // The data version, 1 to 5.
  uint32_t version = 0;
  // Whether records tell how their tensors are encrypted.
  bool encrypted = false;

  bool operator==(const TensorizerTraits&) const = default;
};

// How a file is encrypted that was encrypted as a whole, with AES-CTR.
struct CtrTraits {
  // Where the plain file's first byte lies in the stored one.
  uint64_t begin = 0;
  // 16 bytes.
  std::string iv;

  bool operator==(const CtrTraits&) const = default;
};

// What a weight file says of itself. Offsets are those of the file as it is stored.
struct FileHeader {
  // Ordered by `bytes`; names are unique; ranges don't overlap, those of records' headers neither.
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata = {};
  // So many bytes from the file's first one on say this; the tensors follow.
  uint64_t header_bytes = 0;
  // Set for a tensorizer file.
  std::optional<TensorizerTraits> tensorizer = {};
  // Set for a file that is encrypted with AES-CTR.
  std::optional<CtrTraits> ctr = {};

  // Whether its tensors' bytes have to be decrypted.
  bool encrypted() const { return ctr.has_value() || (tensorizer && tensorizer->encrypted); }
};

// Gives the bytes of a range of the file; ranges lie inside the file.
using HeaderReader = absl::FunctionRef<absl::StatusOr<std::string>(ByteRange)>;

// Recognises the format, asks `read` for the header's bytes and returns what they say. Asks for
// nothing that lies outside the file, for no more than the format's own limit, and for ranges that
// follow one another from the file's first byte on. Malformed input is kDataLoss (kMalformedModel),
// naming `file_name`, the offset and the rule.
//
// `ctr_key` is for safetensors files that are encrypted with AES-CTR: those that say so
// (veturboio.h; kKeyMissing without a key), and, if there is a key, those that don't look like a
// plain file. kKeyRefused if what is decrypted is no safetensors file.
absl::StatusOr<FileHeader> ReadHeader(absl::string_view file_name, uint64_t file_size,
                                      HeaderReader read,
                                      const std::optional<CtrKey>& ctr_key = std::nullopt);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_HEADER_H_
