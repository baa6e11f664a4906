#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LIES_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LIES_H_

#include <ostream>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/daemon/source/lying_server/dice.h"
#include "tests/daemon/source/lying_server/wire_answer.h"

namespace weightd::source {

// A kind of lie that a server can tell.
struct Lie {
  // In letters and digits.
  std::string name;
  // What a load may fail for; that it brings the right bytes is always allowed unless
  // `never_right`.
  std::vector<Reason> reasons;
  // Turns a right answer into a lie; the dice say how.
  void (*tell)(WireAnswer& answer, Dice& dice) = nullptr;

  // Whom it is told to.
  enum class About { kObjects, kObjectsOfS3, kChecksums, kListing };
  About about = About::kObjects;
  // The store tells the checksums of its objects.
  bool checksums = false;
  // The server falls silent or slow: clients had better not wait for long.
  bool stalls = false;
  bool never_right = false;
  // Speaks on a new connection that wants TLS, instead of answering.
  void (*greet)(int connection, Dice& dice) = nullptr;
};

// For the names of tests.
inline void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

// All of them: what a server says about its bytes and does with them, how it says it, and what a
// store says besides.
std::vector<Lie> AllLies();

// Parts of AllLies().
std::vector<Lie> LiesAboutBytes();
std::vector<Lie> LiesAboutHttp();
std::vector<Lie> LiesOfStores();

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LIES_H_
