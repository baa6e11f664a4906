#include "client/cli/gpu_options.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace weightd::cli {
namespace {

constexpr absl::Duration kLongestWait = absl::Hours(24);

// "90", "90s", "1m30s".
absl::Duration WaitIn(const std::string& text) {
  absl::Duration wait;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    wait = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &wait)) {
    throw CLI::ValidationError("--wait",
                               absl::StrCat(text, " is no duration: give 90s, 10m or 1h"));
  }
  if (!(wait >= absl::ZeroDuration() && wait <= kLongestWait)) {
    throw CLI::ValidationError("--wait", "has to be from 0 to 24h");
  }
  return wait;
}

}  // namespace

CLI::Option* AddGpu(CLI::App* command, Arguments& arguments, const char* what) {
  return command
      ->add_option("--gpu", arguments.gpus, absl::StrCat(what, ": index as of status, or UUID"))
      ->type_name("GPU")
      ->expected(1);
}

void AddDrain(CLI::App* drain, Arguments& arguments) {
  CLI::Option* const gpu = AddGpu(drain, arguments, "Only take weightd off this GPU");
  drain->add_flag("--force", arguments.force, "Also while clients lease copies on the GPU")
      ->needs(gpu);
  drain
      ->add_option_function<std::string>(
          "--wait", [&arguments](const std::string& text) { arguments.drain_wait = WaitIn(text); },
          "How long loads that run may go on before they are stopped (default: not at all; of "
          "several drains the last one's counts); it goes on in the daemon if weightctl ends")
      ->type_name("DURATION")
      ->excludes(gpu);
}

void AddResume(CLI::App* resume, Arguments& arguments) {
  AddGpu(resume, arguments, "Use this GPU again");
}

}  // namespace weightd::cli
