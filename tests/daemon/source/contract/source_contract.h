#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_CONTRACT_SOURCE_CONTRACT_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_CONTRACT_SOURCE_CONTRACT_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "common/uri.h"
#include "daemon/source/source.h"

namespace weightd::source {

// Where the objects of a source lie, as its owner sees it.
class Place {
 public:
  virtual ~Place() = default;

  // Creates or replaces an object.
  virtual void Put(absl::string_view name, absl::string_view bytes) = 0;
  virtual Uri UriOf(absl::string_view name) = 0;
  // Whether an object that was replaced can still be read as it was.
  virtual bool keeps_versions() const { return false; }
  virtual Source& source() = 0;
};

struct PlaceKind {
  std::string name;
  std::function<std::unique_ptr<Place>()> make;
};

// What every source promises. Instantiate it for each kind of place.
class SourceContract : public testing::TestWithParam<PlaceKind> {
 protected:
  void SetUp() override { place_ = GetParam().make(); }

  std::unique_ptr<Place> place_;
};

// `size` bytes that differ from offset to offset, and from seed to seed.
std::string Pattern(size_t size, uint32_t seed = 1);

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_CONTRACT_SOURCE_CONTRACT_H_
