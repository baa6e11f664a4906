// Prints what a model holds, a line for each tensor: name, type, shape, bytes and their CRC-32.
//   checksums MODEL [SOCKET_FOLDER]

#include <array>
#include <cstddef>
#include <cstdint>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cpp/client.h"
#include "common/status.h"

namespace {

using weightd::client::Client;
using weightd::client::Model;
using weightd::client::Tensor;

constexpr std::array<uint32_t, 256> CrcTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t entry = i;
    for (int bit = 0; bit < 8; ++bit) {
      entry = (entry >> 1) ^ ((entry & 1) != 0 ? 0xEDB88320U : 0);
    }
    table[i] = entry;
  }
  return table;
}

uint32_t Crc32(absl::Span<const std::byte> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = CrcTable();
  uint32_t crc = ~uint32_t{0};
  for (const std::byte byte : bytes) {
    crc = kTable[(crc ^ static_cast<uint32_t>(byte)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

absl::Status PrintTensors(const char* name, const char* socket_dir) {
  ASSIGN_OR_RETURN(const Client client, Client::Connect({.socket_dir = socket_dir}));
  ASSIGN_OR_RETURN(const Model model, client.Attach(name));
  ASSIGN_OR_RETURN(const absl::Span<const Tensor> tensors, model.tensors());
  for (const Tensor& tensor : tensors) {
    std::cout << absl::StrFormat(
        "%s %s [%s] %d %08x\n", tensor.name(), weightd::DTypeName(tensor.dtype()),
        absl::StrJoin(tensor.shape(), ","), tensor.nbytes(), Crc32(tensor.bytes()));
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: " << argv[0] << " MODEL [SOCKET_FOLDER]\n";
    return 64;
  }
  const absl::Status status = PrintTensors(argv[1], argc > 2 ? argv[2] : "");
  if (!status.ok()) {
    std::cerr << status.message() << "\n(" << weightd::HintOf(status) << ")\n";
    return 1;
  }
  return 0;
}
