#include "daemon/line_meter.h"

#include <algorithm>
#include <utility>

namespace weightd {

void LineMeter::Fill(Bucket& bucket, absl::Time now) const {
  // The clock may have been set back.
  const absl::Duration passed = std::max(absl::ZeroDuration(), now - bucket.filled);
  bucket.lines =
      std::min(rate_.burst, bucket.lines + (rate_.per_second * absl::ToDoubleSeconds(passed)));
  bucket.filled = now;
}

bool LineMeter::Admit(const std::string& cause, absl::Time now) {
  const auto [found, added] = buckets_.try_emplace(cause, Bucket{rate_.burst, now});
  Bucket& bucket = found->second;
  Fill(bucket, now);
  if (bucket.lines < 1) {
    ++bucket.left_out;
    return false;
  }
  bucket.lines -= 1;
  return true;
}

LineMeter::LeftOut LineMeter::TakeLeftOut(absl::Time now) {
  LeftOut left_out;
  for (auto& [cause, bucket] : buckets_) {
    Fill(bucket, now);
    if (bucket.left_out > 0) {
      left_out.emplace_back(cause, std::exchange(bucket.left_out, 0));
    }
  }
  // Who is quiet is forgotten: as if they had never come.
  absl::erase_if(buckets_, [this](const auto& entry) { return entry.second.lines >= rate_.burst; });
  return left_out;
}

}  // namespace weightd
