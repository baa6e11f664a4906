#include <cstdio>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "tests/fakes/fake_cuda/store.h"

// fake_cuda_state DIR: what is alive there, as one JSON object; README.md shows one.

namespace {

using weightd::fake_cuda::ReadUsage;
using weightd::fake_cuda::Usage;

std::string AsJson(const Usage& usage) {
  return absl::StrCat("{\"live_bytes\": ", usage.live_bytes,
                      ", \"live_allocations\": ", usage.live_allocations,
                      ", \"created_bytes\": ", usage.created_bytes,
                      ", \"created_allocations\": ", usage.created_allocations,
                      ", \"processes\": [", absl::StrJoin(usage.processes, ", "), "]}");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || !std::filesystem::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: fake_cuda_state FAKE_CUDA_DIR\n");
    return 2;
  }
  std::map<int, std::string> devices;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    const std::string name = entry.path().filename();
    absl::string_view number = name;
    int ordinal = 0;
    if (absl::ConsumePrefix(&number, "gpu") && absl::SimpleAtoi(number, &ordinal)) {
      devices[ordinal] = absl::StrCat("\"", ordinal, "\": ", AsJson(ReadUsage(argv[1], ordinal)));
    }
  }
  const auto text = [](std::string* out, const auto& device) { out->append(device.second); };
  std::printf("{%s}\n", absl::StrJoin(devices, ", ", text).c_str());
  return 0;
}
