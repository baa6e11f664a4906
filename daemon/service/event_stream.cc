#include "daemon/service/event_stream.h"

#include <utility>

#include "daemon/service/convert.h"

namespace weightd::service {

EventWriter::EventWriter() : thread_([this] { Run(); }) {}

EventWriter::~EventWriter() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void EventWriter::Hand(EventStream* stream) {
  absl::MutexLock lock(&mutex_);
  handed_.push_back(stream);
}

void EventWriter::Run() {
  while (true) {
    std::vector<EventStream*> handed;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &EventWriter::HasNews));
      if (stopping_) {
        return;
      }
      handed.swap(handed_);
    }
    for (EventStream* const stream : handed) {
      stream->Next();
    }
  }
}

EventStream::EventStream(Call call, cache::EventLog* events, EventWriter* writer)
    : call_(std::move(call)), writer_(writer) {
  // So that the caller knows from when on it sees everything.
  StartSendInitialMetadata();
  subscription_ = events->Subscribe([this](const cache::Event& event) { OnEvent(event); });
}

void EventStream::OnEvent(const cache::Event& event) {
  {
    absl::MutexLock lock(&mutex_);
    if (waiting_.size() == kMaxWaiting) {
      waiting_.pop_front();
      ++lost_;
    }
    waiting_.push_back(event);
    if (writing_ || cancelled_) {
      return;
    }
    writing_ = true;
  }
  writer_->Hand(this);
}

void EventStream::Next() {
  bool end = false;
  cache::Event event;
  {
    absl::MutexLock lock(&mutex_);
    end = cancelled_;
    if (!end && waiting_.empty()) {
      writing_ = false;
      return;
    }
    if (!end) {
      event = std::move(waiting_.front());
      waiting_.pop_front();
      current_.set_lost(std::exchange(lost_, 0));
    }
  }
  if (end) {
    Finish(grpc::Status::CANCELLED);
  } else {
    *current_.mutable_event() = ToProto(event);
    StartWrite(&current_);
  }
}

void EventStream::OnWriteDone(bool /*ok*/) { Next(); }

void EventStream::OnCancel() {
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    if (writing_) {
      return;
    }
    writing_ = true;
  }
  Next();
}

void EventStream::OnDone() {
  subscription_.reset();
  delete this;
}

}  // namespace weightd::service
