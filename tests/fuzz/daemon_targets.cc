#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/uri.h"
#include "daemon/config.h"
#include "daemon/service/access.h"
#include "daemon/service/card_codec.h"
#include "daemon/service/tensor_index_codec.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {

void Config(absl::string_view input) {
  const auto config = ParseConfig(input, "w.yaml", {});
  if (!config.ok()) {
    Require(config.status().code() == absl::StatusCode::kInvalidArgument,
            "a refused config is an invalid argument");
    Require(absl::StartsWith(config.status().message(), "w.yaml:"), "errors name file and line");
    return;
  }
  const auto again = ParseConfig(PrintConfig(*config), "w.yaml", {});
  Require(again.ok(), "a printed config can be read");
  Require(google::protobuf::util::MessageDifferencer::Equals(*config, *again),
          "a printed config reads the same");
}

void UriAndAccess(absl::string_view input) {
  const size_t newline = std::min(input.find('\n'), input.size());
  const auto pattern = service::Pattern::Parse(input.substr(0, newline));
  const auto uri = Uri::Parse(input.substr(std::min(newline + 1, input.size())));
  if (!uri.ok()) {
    return;
  }
  const auto again = Uri::Parse(uri->ToString());
  Require(again.ok() && *again == *uri, "a normalised URI stays as it is");
  const std::string path = absl::StrCat(uri->DecodedPath(), "/");
  Require(!absl::StrContains(path, "/../"), "no path climbs");
  Require(path.find('\0') == std::string::npos, "no path has a NUL");
  const std::string redacted = uri->Redacted();
  Require(service::Pattern::Parse("**")->Matches(redacted), "** matches all");
  Require(service::Pattern::Parse("*")->Matches(redacted) == !absl::StrContains(redacted, "/"),
          "* matches what has no slash");
  if (pattern.ok()) {
    const auto access =
        service::Access::Limited({.attach = {std::string(input.substr(0, newline))}});
    const service::Decision decision = access->Decide(*uri, {});
    Require(!decision.load && !decision.policy.any_path, "the right to attach is no other right");
    Require(decision.attach || !pattern->Matches(redacted), "a pattern that matches counts");
  }
}

void ModelCard(absl::string_view input) {
  if (const auto facts = service::DecodeCard(input); facts.ok()) {
    const std::string encoded = service::EncodeCard(*facts);
    const auto again = service::DecodeCard(encoded);
    Require(again.ok() && service::EncodeCard(*again) == encoded, "a card that is read is written");
    for (const pipeline::Extent& extent : facts->index.extents) {
      Require(!facts->weights.has_value() ||
                  extent.offset + extent.bytes.size() <= facts->weights->bytes,
              "extents lie in the segment");
    }
  }
  if (const auto index = service::DecodeTensorIndex(input); index.ok()) {
    for (const pipeline::Piece& piece : index->pieces) {
      Require(piece.offset + piece.nbytes <= index->segment_bytes, "tensors lie in the segment");
    }
  }
}

}  // namespace weightd::fuzz
