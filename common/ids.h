#ifndef WEIGHTD_COMMON_IDS_H_
#define WEIGHTD_COMMON_IDS_H_

#include <compare>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

namespace weightd {

// Numbers that name things on one daemon, each its own type. 0 names nothing.
template <typename Tag>
class NumericId {
 public:
  constexpr NumericId() = default;
  constexpr explicit NumericId(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  friend constexpr auto operator<=>(NumericId, NumericId) = default;
  template <typename H>
  friend H AbslHashValue(H hash, NumericId id) {
    return H::combine(std::move(hash), id.value_);
  }
  friend std::ostream& operator<<(std::ostream& out, NumericId id) { return out << id.value_; }

 private:
  uint64_t value_ = 0;
};

using LeaseId = NumericId<struct LeaseTag>;
using SessionId = NumericId<struct SessionTag>;

// Names one immutable version of a model: 64 lower-case hexadecimal digits.
class RevisionId {
 public:
  RevisionId() = default;
  explicit RevisionId(std::string hex) : hex_(std::move(hex)) {}

  const std::string& hex() const { return hex_; }
  bool empty() const { return hex_.empty(); }

  friend auto operator<=>(const RevisionId&, const RevisionId&) = default;
  template <typename H>
  friend H AbslHashValue(H hash, const RevisionId& id) {
    return H::combine(std::move(hash), id.hex_);
  }
  friend std::ostream& operator<<(std::ostream& out, const RevisionId& id) {
    return out << id.hex_;
  }

 private:
  std::string hex_;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_IDS_H_
