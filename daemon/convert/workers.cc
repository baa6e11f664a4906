#include "daemon/convert/workers.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/status.h"

namespace weightd::convert {
namespace {

// Each has a buffer of 8 MiB, and waits for disk or network half of its time.
constexpr unsigned kMostWorkers = 16;
// A network may be far away: enough is asked for at once even if there are few processors. What
// comes from a disk would only wait for them in more memory.
constexpr unsigned kFewestWorkers = 2;
constexpr unsigned kFewestOfNetwork = 8;

// False if the machine gives no thread, which the standard library says with an exception.
bool Start(const std::function<void()>& work, std::vector<std::thread>& threads) {
  try {
    threads.emplace_back(work);
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

std::vector<Batch> BatchesOf(absl::Span<const TensorPlace> tensors, ReadOrder order) {
  std::vector<Batch> batches = MakeBatches(tensors);
  if (order == ReadOrder::kLargestFirst) {
    std::sort(batches.begin(), batches.end(), [](const Batch& a, const Batch& b) {
      return a.bytes.size() != b.bytes.size() ? a.bytes.size() > b.bytes.size() : a.begin < b.begin;
    });
  }
  return batches;
}

}  // namespace

absl::Status ForEachTensor(
    const Input& input, pipeline::VerifyPolicy policy, pipeline::TensorKeys& keys,
    absl::Span<const TensorPlace> tensors, ReadOrder order,
    absl::FunctionRef<absl::Status(size_t, TensorReader&, Cancellation&)> step,
    Cancellation& cancellation) {
  Cancellation stop;
  const Cancellation::Registration link =
      cancellation.OnCancel([&stop] { stop.Cancel(Error(Reason::kCancelled, "stopped")); });
  const std::vector<Batch> batches = BatchesOf(tensors, order);
  std::atomic<size_t> next = 0;
  absl::Mutex large;
  std::vector<std::thread> threads;
  const unsigned wanted =
      std::clamp(2 * std::thread::hardware_concurrency(),
                 input.source->copies() ? kFewestOfNetwork : kFewestWorkers, kMostWorkers);
  const auto work = [&] {
    TensorReader reader(&input, policy, &keys, &large);
    for (size_t at = next++; at < batches.size() && !stop.cancelled(); at = next++) {
      const Batch& batch = batches[at];
      absl::Status done = reader.ReadAhead(batch.file, batch.bytes, stop);
      for (size_t i = batch.begin; i < batch.end && done.ok() && !stop.cancelled(); ++i) {
        done = step(i, reader, stop);
      }
      if (!done.ok()) {
        stop.Cancel(done);  // the first one's stays
      }
    }
  };
  // This thread is one of them: where no other can be had, it does all.
  while (threads.size() + 1 < std::min<size_t>(wanted, batches.size()) && Start(work, threads)) {
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  RETURN_IF_ERROR(cancellation.status());
  return stop.status();
}

}  // namespace weightd::convert
