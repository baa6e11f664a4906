#ifndef WEIGHTD_CLIENT_CLI_PROGRESS_H_
#define WEIGHTD_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <ostream>
#include <string>

#include "absl/time/time.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::cli {

// How fast bytes arrive, over the last seconds.
class RateMeter {
 public:
  void Add(absl::Time now, uint64_t bytes_done);
  // Bytes per second; 0 while unknown.
  double rate() const;

 private:
  struct Sample {
    absl::Time time;
    uint64_t bytes;
  };
  std::deque<Sample> samples_;
};

// "transferring  [=====>    ]  50%  1.0 GiB of 2.0 GiB  812 MiB/s  2s left". `columns` is the
// terminal's width.
std::string ProgressBar(const v1::LoadProgress& progress, double rate, size_t columns);

// Shows a load while it runs: one line that is drawn over and over on a terminal; elsewhere a line
// for each phase and for each tenth of the bytes.
class ProgressPrinter {
 public:
  ProgressPrinter(std::ostream& out, bool is_terminal, size_t columns)
      : out_(out), is_terminal_(is_terminal), columns_(columns) {}

  void Show(const v1::LoadProgress& progress, absl::Time now);
  // Leaves what was drawn last on a line of its own.
  void Finish();

 private:
  void Draw(const v1::LoadProgress& progress, absl::Time now);
  void PrintSteps(const v1::LoadProgress& progress);

  std::ostream& out_;
  const bool is_terminal_;
  const size_t columns_;
  RateMeter meter_;
  bool drawn_ = false;
  absl::Time last_draw_ = absl::InfinitePast();
  v1::LoadPhase last_phase_ = v1::LOAD_PHASE_UNSPECIFIED;
  uint64_t last_tenth_ = 0;
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_PROGRESS_H_
