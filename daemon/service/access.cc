#include "daemon/service/access.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/service/normal_pattern.h"

namespace weightd::service {
namespace {

absl::StatusOr<std::vector<Pattern>> ParseAll(const std::vector<std::string>& texts) {
  std::vector<Pattern> patterns;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(const std::string normal, NormalPattern(text));
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(normal));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

bool MatchesAny(const std::vector<Pattern>& patterns, const std::vector<absl::string_view>& names) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const Pattern& pattern) {
    return std::any_of(names.begin(), names.end(),
                       [&](absl::string_view name) { return pattern.Matches(name); });
  });
}

}  // namespace

absl::StatusOr<Pattern> Pattern::Parse(absl::string_view text) {
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
  if (text.empty() || text.size() > kMaxPatternBytes || control) {
    return Error(
        Reason::kInvalidArgument,
        absl::StrCat("pattern \"", absl::CEscape(text.substr(0, 100)), "\" is empty, longer than ",
                     kMaxPatternBytes, " bytes or has control characters"),
        "write a URI or alias with * for any run of characters but / and ** for any run");
  }
  Pattern pattern;
  for (size_t i = 0; i < text.size();) {
    const size_t end = std::min(text.find_first_not_of('*', i), text.size());
    if (end == i) {
      if (pattern.literal_beginning_.size() == i) {
        pattern.literal_beginning_.push_back(text[i]);
      }
      pattern.steps_.push_back({Step::Kind::kLiteral, text[i++]});
    } else {
      pattern.steps_.push_back(
          {end - i == 1 ? Step::Kind::kRunWithoutSlash : Step::Kind::kRun, '*'});
      i = end;
    }
  }
  return pattern;
}

bool Pattern::Walk(absl::string_view text, absl::FunctionRef<bool(size_t length)> ends) const {
  // Most patterns and texts differ there.
  const size_t literals = std::min(literal_beginning_.size(), text.size());
  if (text.substr(0, literals) != absl::string_view(literal_beginning_).substr(0, literals)) {
    return false;
  }
  // reached[i]: the text so far is matched by the first i steps. A run may match nothing, so its
  // end is reached with its beginning.
  std::vector<bool> reached(steps_.size() + 1, false);
  reached[0] = true;
  const auto enter_runs = [&] {
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (reached[i] && steps_[i].kind != Step::Kind::kLiteral) {
        reached[i + 1] = true;
      }
    }
  };
  enter_runs();
  std::vector<bool> next(steps_.size() + 1);
  for (size_t length = 0; length < text.size(); ++length) {
    if (reached[steps_.size()] && ends(length)) {
      return true;
    }
    const char c = text[length];
    std::fill(next.begin(), next.end(), false);
    bool any = false;
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (!reached[i]) {
        continue;
      }
      const Step& step = steps_[i];
      const bool literal = step.kind == Step::Kind::kLiteral;
      if (literal ? step.literal == c : (step.kind == Step::Kind::kRun || c != '/')) {
        next[literal ? i + 1 : i] = true;
        any = true;
      }
    }
    if (!any) {
      return false;
    }
    reached.swap(next);
    enter_runs();
  }
  return reached[steps_.size()] && ends(text.size());
}

bool Pattern::Matches(absl::string_view text) const {
  return Walk(text, [text](size_t length) { return length == text.size(); });
}

bool Pattern::MatchesAround(absl::string_view text) const {
  const size_t scheme = text.find("://");
  const size_t authority = scheme == absl::string_view::npos ? 0 : scheme + 3;
  const std::string folder = absl::StrCat(absl::StripSuffix(text, "/"), "/");
  return Walk(folder, [&](size_t length) {
    return length > authority &&
           (length >= folder.size() - 1 || folder[length] == '/' || folder[length - 1] == '/');
  });
}

Access Access::Everything() {
  Access access;
  access.everything_ = true;
  return access;
}

absl::StatusOr<Access> Access::EverythingBut(const std::vector<std::string>& deny) {
  Access access = Everything();
  ASSIGN_OR_RETURN(access.deny_, ParseAll(deny));
  return access;
}

absl::StatusOr<Access> Access::Limited(const AccessRules& rules) {
  Access access;
  ASSIGN_OR_RETURN(access.attach_, ParseAll(rules.attach));
  ASSIGN_OR_RETURN(access.load_configured_, ParseAll(rules.load_configured));
  ASSIGN_OR_RETURN(access.load_, ParseAll(rules.load));
  ASSIGN_OR_RETURN(access.deny_, ParseAll(rules.deny));
  return access;
}

bool Access::DeniesName(absl::string_view name) const { return MatchesAny(deny_, {name}); }

bool Access::DeniesPlace(absl::string_view uri) const {
  return std::any_of(deny_.begin(), deny_.end(),
                     [uri](const Pattern& pattern) { return pattern.MatchesAround(uri); });
}

Decision Access::Decide(const Uri& uri, absl::Span<const std::string> aliases,
                        absl::Span<const std::string> aliases_around) const {
  const std::string redacted = uri.Redacted();
  if (DeniesPlace(redacted) || MatchesAny(deny_, {aliases.begin(), aliases.end()}) ||
      MatchesAny(deny_, {aliases_around.begin(), aliases_around.end()})) {
    return {};
  }
  if (everything_) {
    return {.attach = true,
            .load = true,
            .policy = {.any_path = true, .any_address = true, .unpinned = false}};
  }
  std::vector<absl::string_view> names(aliases.begin(), aliases.end());
  names.push_back(redacted);
  if (uri.IsFolder()) {
    names.push_back(absl::StripSuffix(redacted, "/"));
  }
  Decision decision;
  decision.attach = MatchesAny(attach_, names);
  // What the config alone knows how to reach, with credentials of its own, takes the right to
  // configured models.
  const bool has_secrets = !uri.user_info().empty() || !uri.query().empty();
  const bool configured = !aliases.empty();
  decision.load = (!(configured && has_secrets) && MatchesAny(load_, names)) ||
                  (configured && MatchesAny(load_configured_, names));
  return decision;
}

}  // namespace weightd::service
