#include "common/mapping.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "common/byte_range.h"
#include "common/fd.h"

namespace weightd {
namespace {

Fd MemfdOf(size_t size) {
  Fd memfd(memfd_create("mapping_test", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(memfd.get(), static_cast<off_t>(size)), 0);
  return memfd;
}

TEST(MappingTest, AddressIsCongruentToTheFileForHugePages) {
  Fd memfd = MemfdOf(3 * kPageBytes);
  for (auto access : {Mapping::Access::kSharedWritable, Mapping::Access::kSharedReadOnly,
                      Mapping::Access::kPrivateWritable}) {
    absl::StatusOr<Mapping> mapping = Mapping::Map(memfd.get(), 3 * kPageBytes, access);
    ASSERT_TRUE(mapping.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(mapping->data()) % kHugePageBytes, 0);
    EXPECT_EQ(mapping->size(), 3 * kPageBytes);
  }
}

TEST(MappingTest, PrivateStoresStayPrivateAndSharedOnesDoNot) {
  Fd memfd = MemfdOf(kPageBytes);
  absl::StatusOr<Mapping> shared =
      Mapping::Map(memfd.get(), kPageBytes, Mapping::Access::kSharedWritable);
  absl::StatusOr<Mapping> mine =
      Mapping::Map(memfd.get(), kPageBytes, Mapping::Access::kPrivateWritable);
  ASSERT_TRUE(shared.ok() && mine.ok());
  shared->data()[0] = std::byte{7};
  EXPECT_EQ(mine->data()[0], std::byte{7});
  mine->data()[0] = std::byte{9};
  EXPECT_EQ(shared->data()[0], std::byte{7});
}

TEST(MappingTest, NothingMapsToNothing) {
  absl::StatusOr<Mapping> mapping = Mapping::Map(-1, 0, Mapping::Access::kSharedReadOnly);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(mapping->data(), nullptr);
}

TEST(MappingTest, FailureIsAnError) {
  EXPECT_FALSE(Mapping::Map(-1, kPageBytes, Mapping::Access::kSharedReadOnly).ok());
}

}  // namespace
}  // namespace weightd
