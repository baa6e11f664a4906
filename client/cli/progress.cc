#include "client/cli/progress.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/text.h"

namespace weightd::cli {
namespace {

constexpr absl::Duration kRateWindow = absl::Seconds(5);
constexpr absl::Duration kRedrawInterval = absl::Milliseconds(50);
constexpr size_t kMaxBarWidth = 40;
constexpr size_t kMinBarWidth = 10;

std::string PhaseText(v1::LoadPhase phase) {
  return v1::LoadPhase_IsValid(phase) ? absl::AsciiStrToLower(v1::LoadPhase_Name(phase))
                                      : "loading";
}

std::string BytesOf(const v1::LoadProgress& progress) {
  return absl::StrCat(BytesText(progress.bytes_done()), " of ", BytesText(progress.bytes_total()));
}

double Fraction(const v1::LoadProgress& progress) {
  return std::min(1.0, static_cast<double>(progress.bytes_done()) /
                           static_cast<double>(progress.bytes_total()));
}

std::string Bar(double fraction, size_t width) {
  const auto filled = static_cast<size_t>(fraction * static_cast<double>(width));
  std::string bar(filled, '=');
  if (filled < width) {
    bar += '>';
    bar.append(width - filled - 1, ' ');
  }
  return absl::StrCat("[", bar, "]");
}

}  // namespace

void RateMeter::Add(absl::Time now, uint64_t bytes_done) {
  // A load that began anew (its object changed) counts from 0 again.
  if (!samples_.empty() && bytes_done < samples_.back().bytes) {
    samples_.clear();
  }
  samples_.push_back({now, bytes_done});
  while (samples_.size() > 2 && now - samples_.front().time > kRateWindow) {
    samples_.pop_front();
  }
}

double RateMeter::rate() const {
  if (samples_.size() < 2) {
    return 0;
  }
  const double seconds = absl::ToDoubleSeconds(samples_.back().time - samples_.front().time);
  return seconds <= 0
             ? 0
             : static_cast<double>(samples_.back().bytes - samples_.front().bytes) / seconds;
}

std::string ProgressBar(const v1::LoadProgress& progress, double rate, size_t columns) {
  std::string phase = PhaseText(progress.phase());
  if (progress.bytes_total() == 0) {
    return phase;
  }
  const double fraction = Fraction(progress);
  std::string numbers = absl::StrFormat("%3.0f%%  %s", fraction * 100, BytesOf(progress));
  if (rate > 0) {
    absl::StrAppend(&numbers, "  ", BytesText(static_cast<uint64_t>(rate)), "/s");
    const uint64_t left =
        progress.bytes_total() - std::min(progress.bytes_done(), progress.bytes_total());
    if (left > 0) {
      absl::StrAppend(&numbers, "  ",
                      DurationText(absl::Ceil(absl::Seconds(static_cast<double>(left) / rate),
                                              absl::Seconds(1))),
                      " left");
    }
  }
  const size_t rest = phase.size() + numbers.size() + 6;
  const size_t room = columns > rest ? columns - rest : 0;
  if (room < kMinBarWidth) {
    return absl::StrCat(phase, "  ", numbers);
  }
  return absl::StrCat(phase, "  ", Bar(fraction, std::min(room, kMaxBarWidth)), "  ", numbers);
}

void ProgressPrinter::Show(const v1::LoadProgress& progress, absl::Time now) {
  if (progress.phase() == v1::TRANSFERRING) {
    meter_.Add(now, progress.bytes_done());
  }
  if (is_terminal_) {
    Draw(progress, now);
  } else {
    PrintSteps(progress);
  }
  last_phase_ = progress.phase();
}

void ProgressPrinter::Draw(const v1::LoadProgress& progress, absl::Time now) {
  if (progress.phase() == last_phase_ && now - last_draw_ < kRedrawInterval &&
      progress.bytes_done() < progress.bytes_total()) {
    return;
  }
  last_draw_ = now;
  drawn_ = true;
  // \x1b[K: clear what a longer line left.
  out_ << '\r' << ProgressBar(progress, meter_.rate(), columns_) << "\x1b[K" << std::flush;
}

void ProgressPrinter::PrintSteps(const v1::LoadProgress& progress) {
  const uint64_t tenth =
      progress.bytes_total() == 0 ? 0 : static_cast<uint64_t>(Fraction(progress) * 10);
  const bool moved = progress.phase() == v1::TRANSFERRING && tenth > last_tenth_;
  if (progress.phase() == last_phase_ && !moved) {
    return;
  }
  last_tenth_ = tenth;
  out_ << PhaseText(progress.phase());
  if (progress.bytes_total() != 0) {
    out_ << ' ' << BytesOf(progress);
  }
  if (moved && meter_.rate() > 0) {
    out_ << ", " << BytesText(static_cast<uint64_t>(meter_.rate())) << "/s";
  }
  out_ << '\n' << std::flush;
}

void ProgressPrinter::Finish() {
  if (drawn_) {
    out_ << '\n' << std::flush;
    drawn_ = false;
  }
}

}  // namespace weightd::cli
