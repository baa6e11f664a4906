#include "daemon/source/hf/hf_dialect.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/hf/hf_names.h"
#include "daemon/source/traffic.h"

namespace weightd::source {
namespace {

const std::string& CommitField() {
  static const std::string name = "x-repo-commit";
  return name;
}

HttpFailure Final(Reason reason, absl::string_view name, absl::string_view what,
                  absl::string_view hint) {
  return {.status = Error(reason, absl::StrCat(name, ": ", what), hint)};
}

absl::string_view WithOrWithoutToken(const Proof& proof) {
  return proof.lines.empty() ? "without a token" : "with this token";
}

// What a hub's X-Error-Code means; nothing if it is none of those.
std::optional<HttpFailure> FailureOfCode(const HfName& parts, absl::string_view code,
                                         const Proof& proof, int status, absl::string_view name) {
  const std::string repository = absl::StrCat(parts.organisation, "/", parts.repository);
  if (code == "GatedRepo") {
    return Final(Reason::kSourceDenied, name,
                 absl::StrCat("the repository ", repository, " is gated, and the hub refuses it ",
                              WithOrWithoutToken(proof), " (", status, ")"),
                 "accept its conditions on its page at the hub, then give the daemon a token of "
                 "that account: HF_TOKEN or sources.hf.token_file");
  }
  if (code == "RepoNotFound") {
    return Final(
        Reason::kModelNotFound, name,
        absl::StrCat("the hub shows no repository ", repository, " ", WithOrWithoutToken(proof)),
        "check its name; if it is private, give the daemon a token that may read it: "
        "HF_TOKEN or sources.hf.token_file");
  }
  if (code == "RevisionNotFound") {
    return Final(Reason::kModelNotFound, name,
                 absl::StrCat(repository, " has no revision ", parts.revision),
                 "name a branch, a tag or a commit of 40 digits; a slash in it is written %2F");
  }
  if (code == "EntryNotFound") {
    return Final(Reason::kModelNotFound, name,
                 absl::StrCat(repository, " has no such file at ", parts.revision),
                 "look at the repository's list of files");
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::shared_ptr<HfDialect>> HfDialect::Make(std::string endpoint, HfToken token) {
  ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(endpoint));
  ASSIGN_OR_RETURN(Hop hub, source::FirstHop(uri));
  return std::shared_ptr<HfDialect>(
      new HfDialect(std::move(endpoint), std::move(hub), std::move(token)));
}

absl::StatusOr<Hop> HfDialect::FirstHop(const Uri& uri) {
  const HfName name = ParseHfName(uri);
  const std::string repository = absl::StrCat(name.organisation, "/", name.repository);
  // No Uri: a revision's slashes are escaped here, too.
  Hop hop = hub_;
  hop.url = name.IsFolder() ? absl::StrCat(endpoint_, "/api/models/", repository, "/revision/",
                                           name.encoded_revision)
                            : absl::StrCat(endpoint_, "/", repository, "/resolve/",
                                           name.encoded_revision, "/", name.encoded_file);
  return hop;
}

absl::StatusOr<Proof> HfDialect::Headers(const Uri&, const Hop& hop, Question, Cancellation&) {
  Proof proof;
  proof.elsewhere = !SameOrigin(hop, hub_);
  if (!proof.elsewhere) {
    ASSIGN_OR_RETURN(const std::string token, token_.Get());
    if (!token.empty()) {
      proof.lines.push_back(absl::StrCat("Authorization: Bearer ", token));
    }
  }
  return proof;
}

absl::Status HfDialect::MayFollow(const Uri& uri, const Hop& next) const {
  if (!SameOrigin(next, hub_)) {
    return absl::OkStatus();
  }
  const HfName name = ParseHfName(uri);
  const std::string repository = absl::StrCat(name.organisation, "/", name.repository, "/");
  const bool plain = !absl::StrContains(next.url, "/../") && !absl::StrContains(next.url, "%2E") &&
                     !absl::StrContains(next.url, "%2e");
  for (const absl::string_view place : {"/", "/api/models/", "/api/resolve-cache/models/"}) {
    if (plain && absl::StartsWith(next.url, absl::StrCat(endpoint_, place, repository))) {
      return absl::OkStatus();
    }
  }
  return Error(Reason::kModelNotFound,
               absl::StrCat(uri.Redacted(), ": the hub has this repository under another name"),
               "name it as its page on the hub does, upper and lower case included");
}

void HfDialect::Amend(const Hop& hop, const Answer* redirect, Answer& answer) const {
  std::string commit;
  std::string etag;
  if (SameOrigin(hop, hub_)) {
    commit = answer.HubField(CommitField());
    etag = BareEtag(answer.HubField("x-linked-etag"));
    if (etag.empty() && !answer.IsRedirect()) {
      etag = BareEtag(answer.etag);
    }
  }
  if (redirect != nullptr) {
    // In the form below.
    const absl::string_view before = redirect->etag;
    const size_t colon = before.find(':');
    if (colon != absl::string_view::npos && before.size() > colon + 1) {
      commit = commit.empty() ? std::string(before.substr(1, colon - 1)) : commit;
      etag = etag.empty() ? BareEtag(before.substr(colon + 1)) : etag;
    }
  }
  answer.etag = ToValidator({.commit = commit, .etag = etag});
  answer.last_modified.clear();
}

HttpFailure HfDialect::FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                                 absl::string_view /*body*/, absl::string_view name) {
  HttpFailure failure = FailureOfStatus(answer.status, answer.retry_after, name);
  if (proof.elsewhere) {
    if (answer.status == 401 || answer.status == 403) {
      failure.status =
          Error(Reason::kSourceDenied,
                absl::StrCat(name, ": the server that the hub sends us to answers ", answer.status),
                "see whether this node's clock is right, then try again");
      failure.passing = true;
      failure.retry = RetryReason::kCorrected;
    }
    return failure;
  }
  if (std::optional<HttpFailure> said = FailureOfCode(
          ParseHfName(uri), answer.HubField("x-error-code"), proof, answer.status, name);
      said.has_value()) {
    return *std::move(said);
  }
  if (answer.status == 401 || answer.status == 403) {
    return Final(
        Reason::kSourceDenied, name,
        absl::StrCat("the hub refuses us ", WithOrWithoutToken(proof), " (", answer.status, ")"),
        "check the daemon's token: HF_TOKEN or sources.hf.token_file");
  }
  return failure;
}

}  // namespace weightd::source
