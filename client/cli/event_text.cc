#include "client/cli/event_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/text.h"

namespace weightd::cli {

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string EventText(const v1::Event& event) {
  std::string text = v1::Event::Kind_IsValid(event.kind())
                         ? absl::AsciiStrToLower(v1::Event::Kind_Name(event.kind()))
                         : "unknown";
  const auto add = [&text](bool known, const auto&... words) {
    if (known) {
      absl::StrAppend(&text, words...);
    }
  };
  add(!event.model().empty(), " ", event.model());
  add(!event.revision().empty(), " revision ", event.revision().substr(0, kRevisionDigits));
  add(!event.gpu().empty(), " on ", event.gpu());
  add(event.lease_id() != 0, " lease ", event.lease_id());
  add(event.bytes() != 0, " ", BytesText(event.bytes()));
  if (event.has_took()) {
    absl::StrAppend(
        &text, " in ",
        TookText(absl::Seconds(event.took().seconds()) + absl::Nanoseconds(event.took().nanos())));
  }
  add(!event.listener().empty(), " by ", event.listener());
  add(!event.error().message().empty(), ": ", event.error().message());
  return text;
}

}  // namespace weightd::cli
