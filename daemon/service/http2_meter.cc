#include "daemon/service/http2_meter.h"

#include <algorithm>

namespace weightd::service {
namespace {

// RFC 9113, section 6.
enum FrameType : uint8_t {
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kContinuation = 9,
};
constexpr uint8_t kAcknowledges = 0x1;

}  // namespace

bool Http2Meter::Count(absl::string_view bytes, absl::Duration now, bool settings_sent) {
  while (!over_ && !bytes.empty()) {
    if (preface_left_ > 0 || payload_left_ > 0) {
      size_t& left = preface_left_ > 0 ? preface_left_ : payload_left_;
      const size_t skipped = std::min(left, bytes.size());
      left -= skipped;
      bytes.remove_prefix(skipped);
      continue;
    }
    const size_t taken = std::min(kHeadBytes - head_bytes_, bytes.size());
    std::copy_n(bytes.begin(), taken, head_.begin() + head_bytes_);
    head_bytes_ += taken;
    bytes.remove_prefix(taken);
    if (head_bytes_ == kHeadBytes) {
      head_bytes_ = 0;
      over_ = !CountFrame(now, settings_sent);
    }
  }
  return !over_;
}

bool Http2Meter::CountFrame(absl::Duration now, bool settings_sent) {
  const auto byte = [this](size_t at) { return static_cast<uint8_t>(head_[at]); };
  payload_left_ = size_t{byte(0)} << 16 | size_t{byte(1)} << 8 | byte(2);
  switch (byte(3)) {
    case kHeaders:
      block_bytes_ = payload_left_;
      continuations_ = 0;
      return block_bytes_ <= kMaxHeaderBlockBytes && CountStream();
    case kContinuation:
      block_bytes_ += payload_left_;
      return block_bytes_ <= kMaxHeaderBlockBytes && ++continuations_ <= kMaxContinuations;
    case kResetStream:
      return CountReset(now);
    case kSettings:
      acknowledged_ = acknowledged_ || (settings_sent && (byte(4) & kAcknowledges) != 0);
      return true;
    default:
      return true;
  }
}

bool Http2Meter::CountStream() {
  if (acknowledged_) {
    return true;
  }
  if (streams_left_ == 0) {
    return false;
  }
  --streams_left_;
  return true;
}

bool Http2Meter::CountReset(absl::Duration now) {
  resets_left_ =
      std::min(kResets, resets_left_ + absl::ToDoubleSeconds(now - counted_at_) * kResetsPerSecond);
  counted_at_ = now;
  resets_left_ -= 1;
  return resets_left_ >= 0;
}

}  // namespace weightd::service
