#include "daemon/convert/workers.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

#include "common/status.h"

namespace weightd::convert {
namespace {

// Each has a buffer of 8 MiB, and waits for disk or network half of its time.
constexpr unsigned kMostWorkers = 16;

// False if the machine gives no thread, which the standard library says with an exception.
bool Start(const std::function<void()>& work, std::vector<std::thread>& threads) {
  try {
    threads.emplace_back(work);
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace

absl::Status ForEachTensor(
    const Input& input, pipeline::VerifyPolicy policy, pipeline::TensorKeys& keys, size_t count,
    absl::FunctionRef<absl::Status(size_t, TensorReader&, Cancellation&)> step,
    Cancellation& cancellation) {
  Cancellation stop;
  const Cancellation::Registration link =
      cancellation.OnCancel([&stop] { stop.Cancel(Error(Reason::kCancelled, "stopped")); });
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  const unsigned wanted = std::clamp(2 * std::thread::hardware_concurrency(), 2U, kMostWorkers);
  const auto work = [&] {
    TensorReader reader(&input, policy, &keys);
    for (size_t at = next++; at < count && !stop.cancelled(); at = next++) {
      if (const absl::Status done = step(at, reader, stop); !done.ok()) {
        stop.Cancel(done);  // the first one's stays
      }
    }
  };
  // This thread is one of them: where no other can be had, it does all.
  while (threads.size() + 1 < std::min<size_t>(wanted, count) && Start(work, threads)) {
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  RETURN_IF_ERROR(cancellation.status());
  return stop.status();
}

}  // namespace weightd::convert
