// Goes over so many bytes of memory with weightd's own checksums, or its cipher, on several
// threads, and does nothing else: the ceiling for a load that verifies or decrypts.
//   check_speed crc32|sha256|secretbox MIB THREADS
// Encrypts for `secretbox`: the same work as decrypting, and it can be done again and again. Prints
// "ready" when its memory is there, and begins when its standard input ends.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/secretbox.h"
#include "daemon/source/checksum.h"

namespace {

constexpr size_t kMib = size_t{1} << 20;
// Also what tensorizer puts into one box.
constexpr size_t kStepBytes = 2 * kMib;
// Each thread's: far more than a processor caches.
constexpr size_t kMemoryBytes = 256 * kMib;

using weightd::source::ChecksumKind;

void Check(std::string_view what, absl::Span<std::byte> memory, uint64_t nbytes) {
  const weightd::format::SecretKey key(std::string(32, 'k'));
  const std::string nonce = weightd::format::NewNonce();
  const std::unique_ptr<weightd::source::Hasher> hasher =
      weightd::source::MakeHasher(what == "crc32" ? ChecksumKind::kCrc32 : ChecksumKind::kSha256);
  for (uint64_t done = 0; done < nbytes; done += kStepBytes) {
    const absl::Span<std::byte> step = memory.subspan(done % kMemoryBytes, kStepBytes);
    if (what == "secretbox") {
      weightd::format::SealBox(key, nonce, done / kStepBytes, step);
    } else {
      hasher->Update(step);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    return 64;
  }
  const std::string_view what = argv[1];
  const uint64_t nbytes = std::strtoull(argv[2], nullptr, 10) * kMib;
  const int count = std::atoi(argv[3]);
  if ((what != "crc32" && what != "sha256" && what != "secretbox") || count < 1) {
    return 64;
  }
  absl::BlockingCounter ready(count);
  absl::Notification begin;
  std::vector<std::thread> threads;
  threads.reserve(count);
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&] {
      std::vector<std::byte> memory(kMemoryBytes, std::byte{1});
      ready.DecrementCount();
      begin.WaitForNotification();
      Check(what, absl::MakeSpan(memory), nbytes / count);
    });
  }
  ready.Wait();
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  begin.Notify();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return 0;
}
