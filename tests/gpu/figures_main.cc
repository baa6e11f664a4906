// gpu_figures copies|registration|mapping DRIVER MIB ROUNDS: prints what figures.h says.

#include <cstdio>
#include <string>

#include "absl/strings/numbers.h"
#include "common/status.h"
#include "tests/gpu/figures.h"

namespace weightd::figures {
namespace {

absl::Status Measure(const std::string& what, const std::string& driver, uint64_t bytes,
                     int rounds) {
  if (what == "mapping") {
    return MeasureMapping(driver, bytes, rounds);
  }
  ASSIGN_OR_RETURN(const auto context, OpenGpu(driver));
  return what == "copies" ? MeasureCopies(context, bytes, rounds)
                          : MeasureRegistration(context, bytes, rounds);
}

}  // namespace
}  // namespace weightd::figures

int main(int argc, char** argv) {
  uint64_t mib = 0;
  int rounds = 0;
  if (argc != 5 || !absl::SimpleAtoi(argv[3], &mib) || !absl::SimpleAtoi(argv[4], &rounds)) {
    return 64;
  }
  const absl::Status status =
      weightd::figures::Measure(argv[1], argv[2], mib * weightd::figures::kMiB, rounds);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 70;
  }
  return 0;
}
