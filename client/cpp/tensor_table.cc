#include "client/cpp/tensor_table.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/status.h"

namespace weightd::client {
namespace {

constexpr uint32_t kKnownVersion = 1;
// A key of metadata that never is another name of a tensor: its usual value is "pt".
constexpr absl::string_view kNoAlias = "format";

absl::Status Malformed(absl::string_view what) {
  return Error(Reason::kMalformedModel, absl::StrCat("tensor index from the daemon: ", what),
               "the daemon is broken or is not weightd; report it");
}

absl::Status MalformedPiece(const v1::TensorPiece& piece, absl::string_view what) {
  return Malformed(absl::StrCat("tensor \"", piece.name(), "\" ", what));
}

// Whether every element that shape and strides reach lies in the first `nbytes` bytes.
bool StridesFit(const v1::TensorPiece& piece, uint32_t element_bits) {
  if (piece.strides_size() != piece.shape_size() || element_bits % 8 != 0) {
    return false;
  }
  unsigned __int128 last = 0;
  for (int axis = 0; axis < piece.shape_size(); ++axis) {
    if (piece.shape(axis) == 0) {
      return true;
    }
    if (piece.strides(axis) < 0) {
      return false;
    }
    last += static_cast<unsigned __int128>(piece.shape(axis) - 1) *
            static_cast<uint64_t>(piece.strides(axis));
    if (last > piece.nbytes()) {
      return false;
    }
  }
  return (last + 1) * (element_bits / 8) <= piece.nbytes();
}

// What differs between the places that a segment can be in: how large it is there by its index,
// whether the mapping has that, and where in it a piece begins.
uint64_t SegmentBytes(const v1::TensorIndex& index, const Tensor::Memory&) {
  return index.segment_bytes();
}
uint64_t SegmentBytes(const v1::TensorIndex& index, const DeviceTensor::Memory&) {
  return index.device_bytes();
}

absl::Status CheckSegment(uint64_t segment_bytes, const Tensor::Memory& memory) {
  return segment_bytes == memory.bytes.size()
             ? absl::OkStatus()
             : Malformed(absl::StrCat("says that the segment has ", segment_bytes,
                                      " bytes, it has ", memory.bytes.size()));
}
// An allocation on a GPU is larger: the driver makes them of whole granules.
absl::Status CheckSegment(uint64_t segment_bytes, const DeviceTensor::Memory& memory) {
  return segment_bytes <= memory.bytes
             ? absl::OkStatus()
             : Malformed(absl::StrCat("says that the segment on the GPU has ", segment_bytes,
                                      " bytes, there are ", memory.bytes));
}

uint64_t OffsetOf(const v1::TensorPiece& piece, const Tensor::Memory&) { return piece.offset(); }
uint64_t OffsetOf(const v1::TensorPiece& piece, const DeviceTensor::Memory&) {
  return piece.device_offset();
}

absl::Status CheckPiece(const v1::TensorPiece& piece, uint64_t offset, uint64_t segment_bytes) {
  if (!v1::DType_IsValid(piece.dtype()) || piece.dtype() == v1::DTYPE_UNSPECIFIED) {
    return MalformedPiece(piece, absl::StrCat("has unknown element type ", piece.dtype()));
  }
  if (offset > segment_bytes || piece.nbytes() > segment_bytes - offset) {
    return MalformedPiece(piece, absl::StrCat("has ", piece.nbytes(), " bytes at ", offset,
                                              ", beyond the segment's ", segment_bytes));
  }
  const auto dtype = static_cast<DType>(piece.dtype());
  if (piece.strides_size() != 0) {
    return StridesFit(piece, DTypeBits(dtype))
               ? absl::OkStatus()
               : MalformedPiece(piece, "has strides beyond its bytes");
  }
  const auto expected =
      TensorBytes(dtype, absl::MakeConstSpan(piece.shape().data(), piece.shape_size()));
  if (!expected.has_value() || *expected != piece.nbytes()) {
    return MalformedPiece(
        piece, absl::StrCat("has ", piece.nbytes(), " bytes, not what its shape and type give"));
  }
  return absl::OkStatus();
}

}  // namespace

template <typename T>
absl::StatusOr<std::unique_ptr<const TensorTable<T>>> TensorTable<T>::Parse(
    absl::Span<const std::byte> index, const typename T::Memory& memory) {
  std::unique_ptr<TensorTable> table(new TensorTable());
  if (index.size() > std::numeric_limits<int>::max() ||
      !table->index_.ParseFromArray(index.data(), static_cast<int>(index.size()))) {
    return Malformed("not a TensorIndex message");
  }
  if (table->index_.version() > kKnownVersion) {
    return Error(Reason::kUnsupported,
                 absl::StrCat("the daemon's tensor index has version ", table->index_.version(),
                              ", this client knows ", kKnownVersion),
                 "upgrade the client");
  }
  const uint64_t segment_bytes = SegmentBytes(table->index_, memory);
  RETURN_IF_ERROR(CheckSegment(segment_bytes, memory));
  const auto& pieces = table->index_.layout().pieces();
  table->tensors_.reserve(pieces.size());
  for (const v1::TensorPiece& piece : pieces) {
    const uint64_t offset = OffsetOf(piece, memory);
    RETURN_IF_ERROR(CheckPiece(piece, offset, segment_bytes));
    if (!table->tensors_.empty() && table->tensors_.back().name() >= piece.name()) {
      return MalformedPiece(piece, "is out of order or appears twice");
    }
    const TensorInfo info(piece.name(), static_cast<DType>(piece.dtype()), piece.torch_type(),
                          absl::MakeConstSpan(piece.shape().data(), piece.shape_size()),
                          absl::MakeConstSpan(piece.strides().data(), piece.strides_size()), offset,
                          piece.nbytes());
    table->tensors_.emplace_back(info, memory);
  }
  table->AddAliases();
  return std::unique_ptr<const TensorTable>(std::move(table));
}

template <typename T>
void TensorTable<T>::AddAliases() {
  std::vector<T> aliases;
  for (const auto& entry : index_.metadata()) {
    const std::string& alias = entry.first;
    const T* const stored = alias == kNoAlias ? nullptr : Named(entry.second);
    if (stored != nullptr && Named(alias) == nullptr) {
      aliases.emplace_back(alias, *stored);
    }
  }
  if (aliases.empty()) {
    return;
  }
  tensors_.insert(tensors_.end(), aliases.begin(), aliases.end());
  std::sort(tensors_.begin(), tensors_.end(),
            [](const T& a, const T& b) { return a.name() < b.name(); });
}

template <typename T>
const T* TensorTable<T>::Find(absl::string_view name) const {
  const T* const named = Named(name);
  if (named != nullptr && named->alias_of().empty()) {
    return named;
  }
  // A stored tensor goes before another's further name.
  const T* const of_module = Named(absl::StrCat(".", name));
  return of_module != nullptr && of_module->alias_of().empty() ? of_module : named;
}

template <typename T>
const T* TensorTable<T>::Named(absl::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const T& tensor, absl::string_view key) { return tensor.name() < key; });
  return found != tensors_.end() && found->name() == name ? &*found : nullptr;
}

template class TensorTable<Tensor>;
template class TensorTable<DeviceTensor>;

}  // namespace weightd::client
