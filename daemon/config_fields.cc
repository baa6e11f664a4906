#include "daemon/config_fields.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "common/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::Duration;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr absl::Duration kLongest = absl::Hours(24 * 365);

struct Suffix {
  absl::string_view text;
  uint64_t factor;
};
constexpr Suffix kByteSuffixes[] = {
    {"KiB", uint64_t{1} << 10},
    {"MiB", uint64_t{1} << 20},
    {"GiB", uint64_t{1} << 30},
    {"TiB", uint64_t{1} << 40},
    {"kB", 1'000},
    {"MB", 1'000'000},
    {"GB", 1'000'000'000},
    {"TB", 1'000'000'000'000},
    {"", 1},
};

bool AllDigits(absl::string_view text) {
  return !text.empty() && absl::c_all_of(text, absl::ascii_isdigit);
}

std::optional<uint64_t> ParseCount(absl::string_view text) {
  uint64_t value = 0;
  return AllDigits(text) && absl::SimpleAtoi(text, &value) ? std::optional(value) : std::nullopt;
}

// A count and one of the suffixes; the first that fits counts.
std::optional<uint64_t> ParseWithSuffix(absl::string_view text, absl::Span<const Suffix> suffixes) {
  for (const Suffix& suffix : suffixes) {
    absl::string_view number = text;
    uint64_t product = 0;
    if (absl::ConsumeSuffix(&number, suffix.text)) {
      const std::optional<uint64_t> count = ParseCount(number);
      return count.has_value() && !__builtin_mul_overflow(*count, suffix.factor, &product)
                 ? std::optional(product)
                 : std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<uint64_t> ParseBytes(absl::string_view text) {
  return ParseWithSuffix(text, kByteSuffixes);
}

// Of those given, the largest unit that divides it.
std::string PrintInUnits(uint64_t value, absl::Span<const Suffix> units) {
  for (const Suffix& unit : units) {
    if (value > 0 && value % unit.factor == 0) {
      return absl::StrCat(value / unit.factor, unit.text);
    }
  }
  return absl::StrCat(value);
}

std::string PrintBytes(uint64_t bytes) {
  constexpr Suffix kUnits[] = {{"TiB", uint64_t{1} << 40},
                               {"GiB", uint64_t{1} << 30},
                               {"MiB", uint64_t{1} << 20},
                               {"KiB", uint64_t{1} << 10}};
  return PrintInUnits(bytes, kUnits);
}

constexpr uint64_t kBitsInByte = 8;
// In bits; as a suffix the first that fits counts, for printing the first that divides.
constexpr Suffix kRates[] = {
    {"Tb/s", 1'000'000'000'000},
    {"Gb/s", 1'000'000'000},
    {"Mb/s", 1'000'000},
    {"kb/s", 1'000},
    {"TB/s", kBitsInByte * 1'000'000'000'000},
    {"GB/s", kBitsInByte * 1'000'000'000},
    {"MB/s", kBitsInByte * 1'000'000},
    {"kB/s", kBitsInByte * 1'000},
    {"TiB/s", kBitsInByte << 40},
    {"GiB/s", kBitsInByte << 30},
    {"MiB/s", kBitsInByte << 20},
    {"KiB/s", kBitsInByte << 10},
    {"B/s", kBitsInByte},
    {"b/s", 1},
};

// Bytes a second.
std::optional<uint64_t> ParseRate(absl::string_view text) {
  const std::optional<uint64_t> bits = ParseWithSuffix(text, kRates);
  return bits.has_value() ? std::optional(*bits / kBitsInByte) : std::nullopt;
}

std::string PrintRate(uint64_t bytes) { return PrintInUnits(bytes * kBitsInByte, kRates); }

std::optional<uint64_t> ParseMode(absl::string_view text) {
  if (text.size() != 4 || text[0] != '0') {
    return std::nullopt;
  }
  uint64_t mode = 0;
  for (char c : text) {
    if (c < '0' || c > '7') {
      return std::nullopt;
    }
    mode = mode * 8 + static_cast<uint64_t>(c - '0');
  }
  return mode;
}

// How a number of `field` is read and what one looks like.
struct NumberForm {
  std::optional<uint64_t> (*parse)(absl::string_view);
  absl::string_view example;
};

NumberForm FormOf(const FieldDescriptor& field) {
  switch (field.options().GetExtension(v1::unit)) {
    case v1::BYTES:
      return {ParseBytes, "a size such as 64GiB, 512MiB or 1000000"};
    case v1::MODE:
      return {ParseMode, "a file mode in octal such as 0700"};
    case v1::RATE:
      return {ParseRate, "a rate such as 10Gb/s (bits) or 500MB/s (bytes)"};
    default:
      return {ParseCount, "a whole number"};
  }
}

// Fills one message. The path of what is being read is handed down for errors.
class Filler {
 public:
  explicit Filler(FieldLines& lines) : lines_(lines) {}

  absl::Status FillMap(const YamlNode& node, const std::string& path, Message& message) {
    if (node.kind != YamlNode::Kind::kMap) {
      return Wrong(path, "expected keys and values");
    }
    for (const YamlNode& item : node.items) {
      const std::string field_path = path.empty() ? item.key : absl::StrCat(path, ".", item.key);
      lines_.Add(field_path, item.key_line);
      const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(item.key);
      if (field == nullptr) {
        return lines_.ErrorAt(field_path, "unknown key",
                              absl::StrCat("known here: ", KnownKeys(*message.GetDescriptor())));
      }
      if (item.kind == YamlNode::Kind::kNull) {
        return lines_.ErrorAt(field_path, "no value", "give it one, or leave the key out");
      }
      RETURN_IF_ERROR(field->is_repeated() ? FillList(item, field_path, *field, message)
                                           : FillOne(item, field_path, *field, message));
    }
    return absl::OkStatus();
  }

 private:
  static std::string KnownKeys(const Descriptor& descriptor) {
    std::vector<std::string> names;
    names.reserve(descriptor.field_count());
    for (int i = 0; i < descriptor.field_count(); ++i) {
      names.push_back(descriptor.field(i)->name());
    }
    return absl::StrJoin(names, ", ");
  }

  absl::Status Wrong(absl::string_view path, absl::string_view expected) const {
    return lines_.ErrorAt(path, expected);
  }

  absl::Status FillList(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                        Message& message) {
    if (node.kind != YamlNode::Kind::kList) {
      return Wrong(path, "expected a list");
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string item_path = absl::StrCat(path, "[", i, "]");
      lines_.Add(item_path, node.items[i].line);
      RETURN_IF_ERROR(FillOne(node.items[i], item_path, field, message));
    }
    return absl::OkStatus();
  }

  // Sets the field, or adds to it if it is repeated.
  absl::Status FillOne(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                       Message& message) {
    const Reflection& reflection = *message.GetReflection();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* inner = field.is_repeated() ? reflection.AddMessage(&message, &field)
                                           : reflection.MutableMessage(&message, &field);
      return inner->GetDescriptor() == Duration::descriptor() ? FillDuration(node, path, *inner)
                                                              : FillMap(node, path, *inner);
    }
    if (node.kind != YamlNode::Kind::kScalar) {
      return Wrong(path, "expected a single value");
    }
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (node.scalar.empty()) {
          return Wrong(path, "no value");
        }
        if (absl::c_any_of(node.scalar, absl::ascii_iscntrl)) {
          return Wrong(path, "control character");
        }
        field.is_repeated() ? reflection.AddString(&message, &field, node.scalar)
                            : reflection.SetString(&message, &field, node.scalar);
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_BOOL:
        if (node.scalar != "true" && node.scalar != "false") {
          return Wrong(path, "expected true or false");
        }
        reflection.SetBool(&message, &field, node.scalar == "true");
        return absl::OkStatus();
      default:
        return FillNumber(node.scalar, path, field, message);
    }
  }

  absl::Status FillDuration(const YamlNode& node, const std::string& path, Message& message) {
    absl::Duration duration;
    if (node.kind != YamlNode::Kind::kScalar || !ParsePositiveDuration(node.scalar, duration)) {
      return Wrong(path, "expected a time such as 500ms, 60s or 1h30m");
    }
    Duration& target = static_cast<Duration&>(message);
    absl::Duration rest;
    target.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
    target.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
    return absl::OkStatus();
  }

  absl::Status FillNumber(absl::string_view text, const std::string& path,
                          const FieldDescriptor& field, Message& message) {
    const NumberForm form = FormOf(field);
    const std::optional<uint64_t> value = form.parse(text);
    const bool wide = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    if (!value.has_value() || (!wide && *value > std::numeric_limits<uint32_t>::max())) {
      return Wrong(path, absl::StrCat("expected ", form.example));
    }
    if (*value == 0 && !field.has_presence()) {
      return lines_.ErrorAt(path, "must be above zero", "leave the key out for the default");
    }
    const Reflection& reflection = *message.GetReflection();
    wide ? reflection.SetUInt64(&message, &field, *value)
         : reflection.SetUInt32(&message, &field, static_cast<uint32_t>(*value));
    return absl::OkStatus();
  }

  FieldLines& lines_;
};

YamlNode Scalar(std::string text) {
  return {.kind = YamlNode::Kind::kScalar, .scalar = std::move(text)};
}

YamlNode DescribeInner(const Message& message) {
  if (message.GetDescriptor() != Duration::descriptor()) {
    return DescribeMessage(message);
  }
  const Duration& duration = static_cast<const Duration&>(message);
  return Scalar(absl::FormatDuration(absl::Seconds(duration.seconds()) +
                                     absl::Nanoseconds(duration.nanos())));
}

std::string PrintNumber(uint64_t value, const FieldDescriptor& field) {
  switch (field.options().GetExtension(v1::unit)) {
    case v1::BYTES:
      return PrintBytes(value);
    case v1::MODE:
      return absl::StrFormat("%04o", value);
    case v1::RATE:
      return PrintRate(value);
    default:
      return absl::StrCat(value);
  }
}

YamlNode DescribeSingle(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return DescribeInner(reflection.GetMessage(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return Scalar(reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return Scalar(reflection.GetBool(message, &field) ? "true" : "false");
    case FieldDescriptor::CPPTYPE_UINT64:
      return Scalar(PrintNumber(reflection.GetUInt64(message, &field), field));
    default:
      return Scalar(PrintNumber(reflection.GetUInt32(message, &field), field));
  }
}

YamlNode DescribeList(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  YamlNode list = {.kind = YamlNode::Kind::kList};
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    list.items.push_back(field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
                             ? DescribeInner(reflection.GetRepeatedMessage(message, &field, i))
                             : Scalar(reflection.GetRepeatedString(message, &field, i)));
  }
  return list;
}

}  // namespace

bool ParsePositiveDuration(absl::string_view text, absl::Duration& duration) {
  return absl::ParseDuration(text, &duration) && duration > absl::ZeroDuration() &&
         duration <= kLongest;
}

absl::Status FieldLines::ErrorAt(absl::string_view path, absl::string_view rule,
                                 absl::string_view hint) const {
  absl::string_view at = path;
  auto it = lines_.find(at);
  while (it == lines_.end() && !at.empty()) {
    const size_t cut = at.find_last_of(".[");
    at = at.substr(0, cut == absl::string_view::npos ? 0 : cut);
    it = lines_.find(at);
  }
  return Error(Reason::kInvalidArgument,
               absl::StrCat(file_name_, ":", it == lines_.end() ? 1 : it->second, ": ",
                            path.empty() ? "" : absl::StrCat(path, ": "), rule),
               hint);
}

absl::Status FillMessage(const YamlNode& node, Message& message, FieldLines& lines) {
  lines.Add("", node.line);
  return Filler(lines).FillMap(node, "", message);
}

YamlNode DescribeMessage(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  YamlNode map = {.kind = YamlNode::Kind::kMap};
  for (const FieldDescriptor* field : fields) {
    YamlNode value =
        field->is_repeated() ? DescribeList(message, *field) : DescribeSingle(message, *field);
    value.key = field->name();
    map.items.push_back(std::move(value));
  }
  return map;
}

}  // namespace weightd
