#ifndef WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_
#define WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/pipeline/model.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::service {

// Of the meaning of TensorIndex.
inline constexpr uint32_t kTensorIndexVersion = 1;

// What clients get in the index's memfd: a serialized TensorIndex.
std::string EncodeTensorIndex(const pipeline::ModelIndex& index);

// Of that, pieces, metadata, revision, and the segment's sizes; the rest stands in the model's
// card. kVerificationFailed for what is no TensorIndex of this version, or has pieces that aren't
// what they say or lie outside of the segments.
absl::StatusOr<pipeline::ModelIndex> DecodeTensorIndex(absl::string_view bytes);

v1::TensorPiece ToProto(const pipeline::Piece& piece);
v1::ModelFile ToProto(const pipeline::ModelFile& file);
// `verified` are checks of files of `index`.
v1::Verification VerificationOf(const pipeline::ModelIndex& index,
                                absl::Span<const pipeline::Verified> verified);

// Adds that a file was verified.
void AddCheck(const std::string& file, const pipeline::Verified& verified, v1::Verification& proto);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_
