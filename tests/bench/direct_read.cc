// Reads a whole file into one huge-page buffer from several threads, around the page cache or out
// of it (or out of tmpfs): the ceiling for a load from a local file.
//   direct_read FILE THREADS CHUNK_BYTES direct|cached

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr size_t kHugePage = 2 << 20;

// Takes chunk after chunk until the file is read or a read fails.
bool ReadChunks(int fd, std::byte* buffer, size_t size, size_t chunk, std::atomic<size_t>& next) {
  for (size_t begin = next.fetch_add(chunk); begin < size; begin = next.fetch_add(chunk)) {
    for (size_t done = begin; done < begin + chunk && done < size;) {
      const ssize_t count =
          pread(fd, buffer + done, begin + chunk - done, static_cast<off_t>(done));
      if (count <= 0) {
        return false;
      }
      done += static_cast<size_t>(count);
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    return 64;
  }
  const int around = std::string_view(argv[4]) == "direct" ? O_DIRECT : 0;
  const int fd = open(argv[1], O_RDONLY | O_CLOEXEC | around);
  struct stat info{};
  if (fd < 0 || fstat(fd, &info) != 0) {
    std::perror(argv[1]);
    return 66;
  }
  const auto size = static_cast<size_t>(info.st_size);
  const size_t chunk = std::strtoull(argv[3], nullptr, 10);
  const size_t room = (size + chunk + 2 * kHugePage) / kHugePage * kHugePage;
  auto* buffer = static_cast<std::byte*>(
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(buffer, room, MADV_HUGEPAGE);
  std::atomic<size_t> next = 0;
  std::atomic<bool> whole = true;
  const size_t thread_count = std::strtoull(argv[2], nullptr, 10);
  std::vector<std::thread> threads;
  threads.reserve(thread_count);
  for (size_t i = 0; i < thread_count; ++i) {
    threads.emplace_back([&] {
      if (!ReadChunks(fd, buffer, size, chunk, next)) {
        whole = false;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return whole ? 0 : 70;
}
