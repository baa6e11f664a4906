#include "daemon/fd_store/keeper_protocol.h"

#include <algorithm>
#include <charconv>

namespace weightd::fd_store {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), IsNameCharacter);
}

std::optional<std::string_view> FieldOf(std::string_view packet, std::string_view key) {
  while (!packet.empty()) {
    const std::string_view line = packet.substr(0, packet.find('\n'));
    packet.remove_prefix(std::min(line.size() + 1, packet.size()));
    if (line.size() > key.size() && line[key.size()] == '=' && line.substr(0, key.size()) == key) {
      return line.substr(key.size() + 1);
    }
  }
  return std::nullopt;
}

bool Says(std::string_view packet, std::string_view key) { return FieldOf(packet, key) == "1"; }

std::optional<size_t> NumberOf(std::string_view packet, std::string_view key) {
  const std::optional<std::string_view> text = FieldOf(packet, key);
  size_t number = 0;
  if (!text.has_value()) {
    return std::nullopt;
  }
  const auto [parsed, error] = std::from_chars(text->begin(), text->end(), number);
  if (error != std::errc() || parsed != text->end() || number > kMaxStored) {
    return std::nullopt;
  }
  return number;
}

std::string StoreRequest(std::string_view name) {
  return "FDSTORE=1\nFDNAME=" + std::string(name) + "\nFDPOLL=0";
}

std::string RemoveRequest(std::string_view name) {
  return "FDSTOREREMOVE=1\nFDNAME=" + std::string(name);
}

}  // namespace weightd::fd_store
