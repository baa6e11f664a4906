#ifndef WEIGHTD_CLIENT_CLI_DOCTOR_H_
#define WEIGHTD_CLIENT_CLI_DOCTOR_H_

#include <string>
#include <vector>

#include "client/cli/node_readings.h"

namespace weightd::cli {

struct Finding {
  enum class State { kOk, kWarn, kFail };

  // Stable, for programs: "kernel", "huge_pages", …
  std::string check;
  State state = State::kOk;
  // What was found.
  std::string finding;
  // What it costs, and what to do about it; empty if it is ok.
  std::string cost;
  std::string remedy;
};

// "ok", "warn", "fail".
const char* StateName(Finding::State state);

// What on this node limits weightd. Pure: everything it judges is in the readings.
std::vector<Finding> Diagnose(const NodeReadings& node);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_DOCTOR_H_
