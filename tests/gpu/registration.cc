#include "common/mapping.h"
#include "common/status.h"
#include "tests/gpu/figures.h"

namespace weightd::figures {
namespace {

absl::Status Register(const CudaDriver& driver, const Mapping& mapping, const std::string& name,
                      Round& round) {
  RETURN_IF_ERROR(Timed(round, name, [&] {
    return driver.Check(driver.cuMemHostRegister(mapping.data(), mapping.size(), 0),
                        "cuMemHostRegister");
  }));
  return driver.Check(driver.cuMemHostUnregister(mapping.data()), "cuMemHostUnregister");
}

}  // namespace

absl::Status MeasureRegistration(const std::shared_ptr<const CudaContext>& context, uint64_t bytes,
                                 int rounds) {
  const CudaContext::Current current(*context);
  ASSIGN_OR_RETURN(const Fd small, MakeSource(bytes, /*huge=*/false));
  ASSIGN_OR_RETURN(const Fd huge, MakeSource(bytes, /*huge=*/true));
  ASSIGN_OR_RETURN(const Mapping small_pages,
                   Mapping::Map(small.get(), bytes, Mapping::Access::kSharedWritable));
  ASSIGN_OR_RETURN(const Mapping huge_pages,
                   Mapping::Map(huge.get(), bytes, Mapping::Access::kSharedWritable));
  const CudaDriver& driver = context->driver();
  const std::map<std::string, Contender> contenders = {
      {"small_pages",
       [&](Round& round) { return Register(driver, small_pages, "small_pages", round); }},
      {"huge_pages",
       [&](Round& round) { return Register(driver, huge_pages, "huge_pages", round); }},
  };
  return RunRounds(contenders, rounds);
}

}  // namespace weightd::figures
