#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_API_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_API_H_

#include <type_traits>

#include "common/cuda_driver.h"
#include "common/cuda_symbols.h"
#include "common/cuda_types.h"

// What the library exports: the table's symbols, of the table's types, and nothing else. The
// api_*.cc define them.

namespace weightd::cuda {

extern "C" {
#define FAKE_CUDA_DECLARE(member, symbol) \
  std::remove_pointer_t<decltype(CudaDriver::member)> symbol;
WEIGHTD_CUDA_SYMBOLS(FAKE_CUDA_DECLARE)
#undef FAKE_CUDA_DECLARE
}

}  // namespace weightd::cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_API_H_
