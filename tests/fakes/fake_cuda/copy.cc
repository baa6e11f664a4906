#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/fakes/fake_cuda/memory.h"

namespace weightd::fake_cuda {
namespace {

// What is moved at a time where both ends are on devices.
constexpr uint64_t kPiece = 1 << 20;

cuda::CUresult Failed() {
  if (errno == EFAULT) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  std::perror("fake_cuda: the folder of the fake driver's memory");
  std::abort();
}

cuda::CUresult WriteAt(int fd, uint64_t offset, const char* from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t written =
        pwrite(fd, from + done, bytes - done, static_cast<off_t>(offset + done));
    if (written < 0) {
      return Failed();
    }
    done += static_cast<uint64_t>(written);
  }
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult ReadAt(int fd, uint64_t offset, char* to, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t read = pread(fd, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (read <= 0) {
      return Failed();
    }
    done += static_cast<uint64_t>(read);
  }
  return cuda::CUDA_SUCCESS;
}

// Calls `move(extent, offset in all of them)` until one fails.
template <typename Move>
cuda::CUresult ForEach(const std::vector<Extent>& extents, Move move) {
  uint64_t done = 0;
  for (const Extent& extent : extents) {
    if (const cuda::CUresult result = move(extent, done); result != cuda::CUDA_SUCCESS) {
      return result;
    }
    done += extent.bytes;
  }
  return cuda::CUDA_SUCCESS;
}

// The part [offset, offset + bytes) of what the extents make up together.
std::vector<Extent> Part(const std::vector<Extent>& extents, uint64_t offset, uint64_t bytes) {
  std::vector<Extent> parts;
  uint64_t start = 0;
  for (const Extent& extent : extents) {
    const uint64_t from = std::max(start, offset);
    const uint64_t to = std::min(start + extent.bytes, offset + bytes);
    if (from < to) {
      parts.push_back({extent.allocation, extent.offset + from - start, to - from});
    }
    start += extent.bytes;
  }
  return parts;
}

uint64_t BytesOf(const std::vector<Extent>& extents) {
  uint64_t bytes = 0;
  for (const Extent& extent : extents) {
    bytes += extent.bytes;
  }
  return bytes;
}

}  // namespace

cuda::CUresult WriteBytes(const std::vector<Extent>& to, const void* from) {
  return ForEach(to, [from](const Extent& extent, uint64_t done) {
    return WriteAt(extent.allocation->file.get(), extent.offset,
                   static_cast<const char*>(from) + done, extent.bytes);
  });
}

cuda::CUresult ReadBytes(const std::vector<Extent>& from, void* to) {
  return ForEach(from, [to](const Extent& extent, uint64_t done) {
    return ReadAt(extent.allocation->file.get(), extent.offset, static_cast<char*>(to) + done,
                  extent.bytes);
  });
}

cuda::CUresult CopyBytes(const std::vector<Extent>& to, const std::vector<Extent>& from) {
  const uint64_t bytes = BytesOf(from);
  std::vector<char> piece(std::min(bytes, kPiece));
  for (uint64_t done = 0; done < bytes; done += piece.size()) {
    piece.resize(std::min(bytes - done, kPiece));
    cuda::CUresult result = ReadBytes(Part(from, done, piece.size()), piece.data());
    if (result == cuda::CUDA_SUCCESS) {
      result = WriteBytes(Part(to, done, piece.size()), piece.data());
    }
    if (result != cuda::CUDA_SUCCESS) {
      return result;
    }
  }
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult FillBytes(const std::vector<Extent>& to, unsigned char value) {
  const std::vector<char> filled(std::min(BytesOf(to), kPiece), static_cast<char>(value));
  for (uint64_t done = 0; done < BytesOf(to); done += filled.size()) {
    const auto part = Part(to, done, filled.size());
    if (const cuda::CUresult result = WriteBytes(part, filled.data());
        result != cuda::CUDA_SUCCESS) {
      return result;
    }
  }
  return cuda::CUDA_SUCCESS;
}

}  // namespace weightd::fake_cuda
