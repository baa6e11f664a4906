// The side of a transfer that libcurl sees: what it is told, and what it calls.

#include <sys/socket.h>

#include <utility>

#include "daemon/source/http/http_curl_options.h"
#include "daemon/source/http/http_transfer.h"

namespace weightd::source {

// What any handle that connects for this try is told.
void Transfer::SetConnection(CURL* handle) {
  SetConnectionOptions(handle, settings_->options);
  curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, &Transfer::OpenSocket);
  curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, this);
}

void Transfer::PrepareConnect(CURL* handle) {
  SetConnection(handle);
  curl_easy_setopt(handle, CURLOPT_URL, origin_.c_str());
  curl_easy_setopt(handle, CURLOPT_PROXY, "");
  curl_easy_setopt(handle, CURLOPT_CONNECT_ONLY, 1L);
}

void Transfer::SetRequest(const std::vector<std::string>& lines, const std::string& proxy) {
  curl_easy_reset(handle_);
  SetConnection(handle_);
  SetRequestOptions(handle_, settings_->options, hop_, proxy);
  if (exchange_->question() == Question::kChecksums) {
    curl_easy_setopt(handle_, CURLOPT_NOBODY, 1L);
  }
  if (const std::string range = exchange_->Range(); !range.empty()) {
    curl_easy_setopt(handle_, CURLOPT_RANGE, range.c_str());
  }
  curl_easy_setopt(handle_, CURLOPT_FRESH_CONNECT, afresh_ ? 1L : 0L);
  curl_slist_free_all(std::exchange(headers_, nullptr));
  for (const std::string& line : lines) {
    headers_ = curl_slist_append(headers_, line.c_str());
  }
  curl_easy_setopt(handle_, CURLOPT_HTTPHEADER, headers_);
  curl_easy_setopt(handle_, CURLOPT_ERRORBUFFER, tls_detail_);
  curl_easy_setopt(handle_, CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
  curl_easy_setopt(handle_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(handle_, CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
  curl_easy_setopt(handle_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(handle_, CURLOPT_PREREQFUNCTION, &Transfer::BeforeRequest);
  curl_easy_setopt(handle_, CURLOPT_PREREQDATA, this);
}

std::optional<CURLcode> Transfer::Resume() {
  if (!held_back_) {
    return std::nullopt;
  }
  const CURLcode code = curl_easy_pause(handle_, CURLPAUSE_CONT);
  return code == CURLE_OK ? std::nullopt : std::optional(code);
}

size_t Transfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  const size_t bytes = size * count;
  return static_cast<Transfer*>(self)->TakeHeadLine({data, bytes}) ? bytes : 0;
}

size_t Transfer::OnBody(char* data, size_t size, size_t count, void* self) {
  const size_t bytes = size * count;
  Transfer& transfer = *static_cast<Transfer*>(self);
  transfer.held_back_ = transfer.pace_->left() == 0;
  if (transfer.held_back_) {
    return CURL_WRITEFUNC_PAUSE;
  }
  return transfer.TakeBody({data, bytes}) ? bytes : 0;
}

curl_socket_t Transfer::OpenSocket(void* self, curlsocktype, curl_sockaddr* address) {
  if (!static_cast<Transfer*>(self)->MayReach(IpAddress::Of(address->addr))) {
    return CURL_SOCKET_BAD;
  }
  static_cast<Transfer*>(self)->opened_ = true;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// A connection that is used again was opened under its first user's policy, perhaps a wider one.
int Transfer::BeforeRequest(void* self, char* remote, char*, int, int) {
  return static_cast<Transfer*>(self)->MayReach(IpAddress::Parse(remote)) ? CURL_PREREQFUNC_OK
                                                                          : CURL_PREREQFUNC_ABORT;
}

}  // namespace weightd::source
