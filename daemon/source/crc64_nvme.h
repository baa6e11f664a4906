#ifndef WEIGHTD_DAEMON_SOURCE_CRC64_NVME_H_
#define WEIGHTD_DAEMON_SOURCE_CRC64_NVME_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace weightd::source {

// CRC-64/NVME (NVM Command Set Specification 1.0, 5.2.1.3.4), which no library of Debian 12 has.
// `crc` is that of the bytes before; 0 for none.
uint64_t Crc64Nvme(uint64_t crc, absl::Span<const std::byte> bytes);

// The same on any processor, several times slower: what Crc64Nvme uses without PCLMULQDQ.
uint64_t Crc64NvmeByTables(uint64_t crc, absl::Span<const std::byte> bytes);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CRC64_NVME_H_
