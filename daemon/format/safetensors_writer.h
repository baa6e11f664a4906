#ifndef WEIGHTD_DAEMON_FORMAT_SAFETENSORS_WRITER_H_
#define WEIGHTD_DAEMON_FORMAT_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/format/header.h"

// Writes what safetensors.h reads. Pure.

namespace weightd::format {

// A file that is to be written.
struct SafetensorsPlan {
  // What stands before the tensors' bytes.
  std::string head;
  // Where the bytes of each tensor go: as many ranges as there are tensors, in their order.
  std::vector<ByteRange> places;
  uint64_t file_bytes = 0;
};

// As the format's own writer would write it: the widest elements first, then by name, so that every
// tensor is aligned. Of `tensors`, name, type, shape and nbytes count. kUnsupported for what the
// format can't say, naming the tensor.
absl::StatusOr<SafetensorsPlan> PlanSafetensors(const std::vector<TensorEntry>& tensors,
                                                const std::map<std::string, std::string>& metadata);

// `model.safetensors.index.json`: `weight_map` from tensor to file, of so many bytes of tensors.
std::string ShardIndexText(const std::map<std::string, std::string>& weight_map,
                           uint64_t total_bytes);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_SAFETENSORS_WRITER_H_
