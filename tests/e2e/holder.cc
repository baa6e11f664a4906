// A C++ client process for tests: attaches, says so in one line with a sum over all bytes, and
// holds on until its standard input ends.
//   holder SOCKET_DIR MODEL

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "absl/status/statusor.h"
#include "client/cpp/client.h"

namespace {

// Differs for any changed, moved or swapped word.
uint64_t Sum(absl::Span<const std::byte> bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i + sizeof(uint64_t) <= bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    sum = (sum ^ word) * 0x9E3779B97F4A7C15U;
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    return 64;
  }
  absl::StatusOr<weightd::client::Client> client =
      weightd::client::Client::Connect({.socket_dir = argv[1]});
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 69;
  }
  absl::StatusOr<weightd::client::Model> model = client->Attach(argv[2]);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 70;
  }
  std::printf("%016lx\n", static_cast<unsigned long>(Sum(model->bytes())));
  std::fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
