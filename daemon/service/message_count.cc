#include "daemon/service/message_count.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <limits>

namespace weightd::service {
namespace {

using google::protobuf::internal::WireFormatLite;

// Takes those of `encoded` from `left`; false if that is not enough. As deep as shapes are.
bool Count(absl::string_view encoded, const MessageShape& shape, int64_t& left) {
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(encoded.data()),
                                               static_cast<int>(encoded.size()));
  while (const uint32_t tag = input.ReadTag()) {
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&input, tag)) {
        return false;
      }
      continue;
    }
    uint32_t bytes = 0;
    if (!input.ReadVarint32(&bytes)) {
      return false;
    }
    const auto begin = static_cast<size_t>(input.CurrentPosition());
    if (bytes > encoded.size() - begin) {
      return false;
    }
    const auto known = std::find_if(shape.fields.begin(), shape.fields.end(),
                                    [tag](const MessageShape::Below& below) {
                                      return below.field == WireFormatLite::GetTagFieldNumber(tag);
                                    });
    const bool is_text = known != shape.fields.end() && known->shape == nullptr;
    const bool is_message = known != shape.fields.end() && known->shape != nullptr;
    left -= is_text ? 0 : 1;
    if (left < 0 || (is_message && !Count(encoded.substr(begin, bytes), *known->shape, left)) ||
        !input.Skip(static_cast<int>(bytes))) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool HasFewMessages(absl::string_view encoded, const MessageShape& shape, int64_t most) {
  return encoded.size() <= std::numeric_limits<int>::max() && Count(encoded, shape, most);
}

}  // namespace weightd::service
