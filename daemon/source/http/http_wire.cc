#include "daemon/source/http/http_wire.h"

#include <utility>

#include "common/status.h"

namespace weightd::source {

Wire::~Wire() {
  TakeOff();
  Disconnect();
}

absl::Status Wire::Begin(Exchange* exchange) {
  RETURN_IF_ERROR(transfer_.Begin(exchange));
  PutOn();
  return absl::OkStatus();
}

void Wire::PutOn() {
  busy_ = true;
  if (!transfer_.direct()) {
    curl_multi_add_handle(connections_.multi(), transfer_.handle());
    return;
  }
  if (connection_ != nullptr &&
      !(connection_->origin() == transfer_.origin() && connection_->reusable())) {
    Disconnect();
  }
  if (connection_ == nullptr) {
    connection_ =
        connections_.Take([this](const DirectConnection& kept) { return transfer_.MayUse(kept); });
  }
  if (connection_ != nullptr) {
    transfer_.SendOver(*connection_);
    return;
  }
  connector_.reset(curl_easy_init());
  transfer_.PrepareConnect(connector_.get());
  curl_multi_add_handle(connections_.multi(), connector_.get());
}

void Wire::TakeOff() {
  if (!std::exchange(busy_, false)) {
    return;
  }
  if (!transfer_.direct()) {
    curl_multi_remove_handle(connections_.multi(), transfer_.handle());
  }
  DropConnector();
  if (connection_ != nullptr && !connection_->reusable()) {
    Disconnect();
  }
}

// libcurl closes what it connected.
void Wire::DropConnector() {
  if (connector_ != nullptr) {
    curl_multi_remove_handle(connections_.multi(), connector_.get());
    connector_.reset();
  }
}

void Wire::Disconnect() {
  if (connection_ != nullptr) {
    connections_.GiveBack(std::move(connection_));
  }
}

bool Wire::Is(const CURL* handle) const {
  return busy_ && (transfer_.direct() ? connector_.get() : transfer_.handle()) == handle;
}

std::optional<CURLcode> Wire::Answered(CURLcode code) {
  if (!transfer_.direct() || code != CURLE_OK) {
    return code;
  }
  connection_ = DirectConnection::From(connector_.get(), transfer_.origin());
  DropConnector();
  if (connection_ == nullptr) {
    return CURLE_COULDNT_CONNECT;
  }
  transfer_.SendOver(*connection_);
  return std::nullopt;
}

std::optional<CURLcode> Wire::Pump() {
  const std::optional<CURLcode> code = transfer_.Pump(*connection_);
  if (!code.has_value() || !transfer_.again()) {
    return code;
  }
  TakeOff();
  Disconnect();
  if (!transfer_.Repeat()) {
    return CURLE_ABORTED_BY_CALLBACK;
  }
  PutOn();
  return std::nullopt;
}

std::optional<CURLcode> Wire::Resume() {
  return busy_ && !transfer_.direct() ? transfer_.Resume() : std::nullopt;
}

Transfer::End Wire::Finish(CURLcode code) {
  TakeOff();
  const Transfer::End end = transfer_.Finish(code);
  if (end == Transfer::End::kDriveOn) {
    PutOn();
  }
  return end;
}

}  // namespace weightd::source
