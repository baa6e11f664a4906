#include "client/cpp/event_stream.h"

#include <utility>

#include "client/cpp/rpc.h"

namespace weightd::client {

EventStream::EventStream(v1::Admin::Stub& stub, std::string where)
    : where_(std::move(where)), reader_(stub.WatchEvents(&context_, v1::WatchEventsRequest())) {}

EventStream::~EventStream() {
  if (finished_) {
    return;
  }
  Cancel();
  v1::WatchEventsResponse ignored;
  while (Next(ignored)) {
  }
  static_cast<void>(Finish());
}

bool EventStream::Next(v1::WatchEventsResponse& event) { return reader_->Read(&event); }

void EventStream::Cancel() { context_.TryCancel(); }

absl::Status EventStream::Finish() {
  finished_ = true;
  return FromRpc(reader_->Finish(), context_, where_);
}

}  // namespace weightd::client
