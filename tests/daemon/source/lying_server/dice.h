#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_DICE_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_DICE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>

namespace weightd::source {

// Random numbers, the same for the same seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}

  // 0 to `end` - 1.
  uint64_t Below(uint64_t end) { return random_() % end; }
  bool Chance(int percent) { return Below(100) < static_cast<uint64_t>(percent); }

  template <typename Value>
  Value OneOf(std::initializer_list<Value> values) {
    return values.begin()[Below(values.size())];
  }

  std::string Garbage(size_t bytes) {
    std::string garbage(bytes, '\0');
    for (char& byte : garbage) {
      byte = static_cast<char>(random_());
    }
    return garbage;
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_DICE_H_
