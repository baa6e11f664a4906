#ifndef WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_
#define WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_

#include <cstdint>
#include <string>

#include "daemon/pipeline/model.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::service {

// Of the meaning of TensorIndex.
inline constexpr uint32_t kTensorIndexVersion = 1;

// What clients get in the index's memfd: a serialized TensorIndex.
std::string EncodeTensorIndex(const pipeline::ModelIndex& index);

v1::TensorPiece ToProto(const pipeline::Piece& piece);
v1::ModelFile ToProto(const pipeline::ModelFile& file);
v1::Verification VerificationOf(const pipeline::ModelIndex& index);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TENSOR_INDEX_CODEC_H_
