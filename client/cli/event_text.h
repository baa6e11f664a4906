#ifndef WEIGHTD_CLIENT_CLI_EVENT_TEXT_H_
#define WEIGHTD_CLIENT_CLI_EVENT_TEXT_H_

#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "absl/time/time.h"
#include "weightd/v1/admin.pb.h"

// What `weightctl watch` says of an event, wherever it prints it.

namespace weightd::cli {

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp);

// "load_finished https://models.example/llama/ revision 0123456789ab 2.0 GiB in 3.2s": all but
// the time; names may hold anything.
std::string EventText(const v1::Event& event);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_EVENT_TEXT_H_
