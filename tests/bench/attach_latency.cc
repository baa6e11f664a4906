// Times attaches of a resident model by the C++ client on one connection; prints microseconds, a
// line each.
//   attach_latency SOCKET_DIR MODEL COUNT

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    return 64;
  }
  absl::StatusOr<weightd::client::Client> client =
      weightd::client::Client::Connect({.socket_dir = argv[1]});
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 69;
  }
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    const absl::Time begin = absl::Now();
    absl::StatusOr<weightd::client::Model> model = client->Attach(argv[2]);
    if (!model.ok()) {
      std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
      return 70;
    }
    std::printf("%.1f\n", absl::ToDoubleMicroseconds(absl::Now() - begin));
  }
  return 0;
}
