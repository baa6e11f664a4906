// Signs the requests that it reads from standard input: the C++ half of test_signatures.py. Each
// is a list of texts, a u32 little-endian length and that many bytes each, in the order of
// ReadRequest below. Writes a line for each: the signed query, or the added headers, each as the
// name, ":" and the value, with tabs between them.

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "daemon/source/credentials.h"
#include "daemon/source/s3/sigv4.h"

namespace {

using weightd::source::Credentials;
using weightd::source::Header;
using weightd::source::PathForm;
using weightd::source::RequestToSign;

// False at the end of the input.
bool ReadText(std::string& text) {
  unsigned char prefix[4];
  if (!std::cin.read(reinterpret_cast<char*>(prefix), sizeof(prefix))) {
    return false;
  }
  text.resize(prefix[0] | prefix[1] << 8 | prefix[2] << 16 | uint32_t{prefix[3]} << 24);
  return static_cast<bool>(std::cin.read(text.data(), static_cast<std::streamsize>(text.size())));
}

int64_t ReadNumber() {
  std::string text;
  int64_t number = 0;
  if (!ReadText(text) || !absl::SimpleAtoi(text, &number)) {
    std::cerr << "no number where one belongs\n";
    std::exit(1);
  }
  return number;
}

// Seconds that the query shall be valid for; 0: sign in headers.
struct Order {
  RequestToSign request;
  Credentials credentials;
  int64_t valid_for = 0;
};

bool ReadRequest(Order& order) {
  RequestToSign& request = order.request;
  std::string path_form;
  for (std::string* const text :
       {&path_form, &order.credentials.access_key_id, &order.credentials.secret_access_key,
        &order.credentials.session_token, &request.scope.region, &request.scope.service,
        &request.method, &request.host, &request.path, &request.query, &request.payload_hash}) {
    if (!ReadText(*text)) {
      return false;
    }
  }
  request.path_form = path_form == "normalised" ? PathForm::kNormalised : PathForm::kAsSent;
  request.scope.time = absl::FromUnixSeconds(ReadNumber());
  order.valid_for = ReadNumber();
  request.headers.resize(static_cast<size_t>(ReadNumber()));
  for (Header& header : request.headers) {
    ReadText(header.name);
    ReadText(header.value);
  }
  return true;
}

std::string Sign(const Order& order) {
  if (order.valid_for > 0) {
    return SignInQuery(order.request, order.credentials, absl::Seconds(order.valid_for));
  }
  return absl::StrJoin(SignInHeaders(order.request, order.credentials), "\t",
                       [](std::string* out, const Header& header) {
                         absl::StrAppend(out, header.name, ":", header.value);
                       });
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  for (Order order; ReadRequest(order); order = {}) {
    std::cout << Sign(order) << '\n';
  }
  return std::cin.eof() ? 0 : 1;
}
