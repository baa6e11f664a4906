#include "daemon/line_meter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weightd {
namespace {

constexpr absl::Duration kTellEvery = absl::Seconds(10);

}  // namespace

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

bool ClientLineMeter::Admit(const std::string& listener, std::optional<uint32_t> uid,
                            absl::Time now) {
  const std::string user = uid.has_value() ? absl::StrCat(listener, " uid ", *uid) : listener;
  return of_user_.Admit(user, now) && of_listener_.Admit(listener, now);
}

LineMeter::LeftOut ClientLineMeter::TakeLeftOut(absl::Time now) {
  LineMeter::LeftOut left_out = of_user_.TakeLeftOut(now);
  LineMeter::LeftOut of_listener = of_listener_.TakeLeftOut(now);
  std::move(of_listener.begin(), of_listener.end(), std::back_inserter(left_out));
  return left_out;
}

bool LeftOutClock::Strikes(absl::Time now) {
  if (now < next_) {
    return false;
  }
  next_ = now + kTellEvery;
  return true;
}

}  // namespace weightd
