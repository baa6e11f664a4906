#include "daemon/convert/key_trial.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "daemon/convert/batches.h"
#include "daemon/convert/tensor_reader.h"

namespace weightd::convert {
namespace {

// As many as the daemon tries.
constexpr size_t kMostTried = 8;
// Of a tensor: its first piece, as writers make them.
constexpr uint64_t kTriedBytes = 2 << 20;

std::vector<TensorPlace> FirstEncrypted(const Input& input) {
  std::vector<TensorPlace> tensors;
  for (uint32_t file = 0; file < input.headers.size(); ++file) {
    const format::FileHeader& header = input.headers[file];
    if (!header.tensorizer.has_value() || !header.tensorizer->encrypted) {
      continue;
    }
    for (const format::TensorEntry& tensor : header.tensors) {
      if (tensors.size() == kMostTried) {
        return tensors;
      }
      if (!tensor.bytes.empty()) {
        tensors.push_back({file, &tensor});
      }
    }
  }
  return tensors;
}

absl::StatusOr<bool> Opens(TensorReader& reader, const TensorPlace& place,
                           Cancellation& cancellation) {
  const format::TensorEntry& tensor = *place.tensor;
  const uint64_t end = std::min(tensor.bytes.end, tensor.bytes.begin + kTriedBytes);
  RETURN_IF_ERROR(reader.ReadAhead(place.file, {tensor.record->header.begin, end}, cancellation));
  RETURN_IF_ERROR(reader.Open(place.file, tensor, cancellation).status());
  return reader.KeyOpens(cancellation);
}

// Where the work will tell what is wrong.
bool IsOfOneTensor(const absl::Status& status) {
  return ReasonOf(status) == Reason::kMalformedModel || ReasonOf(status) == Reason::kUnsupported;
}

}  // namespace

absl::Status TryKey(const Input& input, pipeline::TensorKeys& keys, Cancellation& cancellation) {
  if (!keys.given()) {
    return absl::OkStatus();
  }
  absl::Mutex large;
  TensorReader reader(&input, pipeline::VerifyPolicy::kNever, &keys, &large);
  const std::vector<TensorPlace> tensors = FirstEncrypted(input);
  size_t tried = 0;
  for (const TensorPlace& tensor : tensors) {
    const absl::StatusOr<bool> opens = Opens(reader, tensor, cancellation);
    if (IsOfOneTensor(opens.status())) {
      continue;
    }
    RETURN_IF_ERROR(opens.status());
    if (*opens) {
      return absl::OkStatus();
    }
    ++tried;
  }
  if (tried == 0) {
    return absl::OkStatus();
  }
  return Error(Reason::kKeyRefused,
               absl::StrCat(input.model.files[tensors.front().file].name,
                            ": its tensors were not encrypted with this ",
                            keys.password() ? "password" : "key", ", or all of the first ", tried,
                            " were changed since"),
               "look whether this is the key or password of this file");
}

}  // namespace weightd::convert
