#ifndef WEIGHTD_DAEMON_SERVICE_ACCESS_H_
#define WEIGHTD_DAEMON_SERVICE_ACCESS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/uri.h"
#include "daemon/source/source.h"

namespace weightd::service {

inline constexpr size_t kMaxPatternBytes = 1024;

// A pattern of the config: `*` stands for any run of characters but `/`, `**` for any run,
// everything else for itself. Matching takes at most length of pattern times length of text steps,
// whatever they hold.
class Pattern {
 public:
  // INVALID_ARGUMENT if it is empty, longer than kMaxPatternBytes, or has control characters.
  static absl::StatusOr<Pattern> Parse(absl::string_view text);

  // Whether the pattern matches all of `text`.
  bool Matches(absl::string_view text) const;

  // Whether it matches the URI `text`, with or without a last slash, or a folder that it lies in.
  bool MatchesAround(absl::string_view text) const;

 private:
  struct Step {
    enum class Kind : char { kLiteral, kRunWithoutSlash, kRun } kind;
    char literal;
  };

  // Where in `text` a beginning ends that the whole pattern matches, as `ends` is told while it
  // returns false.
  bool Walk(absl::string_view text, absl::FunctionRef<bool(size_t length)> ends) const;

  std::vector<Step> steps_;
  // What comes before the first run.
  std::string literal_beginning_;
};

// The three rights of a listener, each the patterns of the models it covers, and what none of them
// covers.
struct AccessRules {
  // Attach to what is resident.
  std::vector<std::string> attach = {};
  // Load models of the config's list.
  std::vector<std::string> load_configured = {};
  // Load any URI that matches.
  std::vector<std::string> load = {};
  // Neither attach nor load, whatever the others say.
  std::vector<std::string> deny = {};
};

// What the clients of one listener may do with one model.
struct Decision {
  bool attach = false;
  bool load = false;
  // How far a load that they start may reach.
  source::ReadPolicy policy;

  // Whether they may know that it exists.
  bool visible() const { return attach || load; }
};

// The access policy of one listener. A value; reading it is thread-safe.
class Access {
 public:
  // For a listener that only the daemon's own user reaches: all rights, any path and any address
  // that the daemon reaches.
  static Access Everything();
  // The same, but for models that these patterns match.
  static absl::StatusOr<Access> EverythingBut(const std::vector<std::string>& deny);
  // For all others: what the patterns say, and reads only below the configured roots and of
  // permitted addresses.
  static absl::StatusOr<Access> Limited(const AccessRules& rules);

  // Patterns are held against `uri` without user info and query, with and without a folder's last
  // slash, and against `aliases`: the names that the config's list has for it, empty if it isn't on
  // the list. With a folder all that lies in it is denied: `aliases_around` are those of the
  // folders that it lies in, and of itself with and without its last slash.
  Decision Decide(const Uri& uri, absl::Span<const std::string> aliases,
                  absl::Span<const std::string> aliases_around = {}) const;

  // Whether there is nothing that it does not cover, or that it denies.
  bool everything() const { return everything_ && deny_.empty(); }
  bool denies() const { return !deny_.empty(); }
  // Whether it denies what has this name of the config's list, or what lies at this URI, written
  // as Uri::Redacted does.
  bool DeniesName(absl::string_view name) const;
  bool DeniesPlace(absl::string_view uri) const;

 private:
  bool everything_ = false;
  std::vector<Pattern> attach_;
  std::vector<Pattern> load_configured_;
  std::vector<Pattern> load_;
  std::vector<Pattern> deny_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_ACCESS_H_
