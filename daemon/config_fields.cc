#include "daemon/config_fields.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "daemon/config_numbers.h"
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

NumberForm FormOfField(const FieldDescriptor& field) {
  return FormOf(field.options().GetExtension(v1::unit));
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
    const NumberForm form = FormOfField(field);
    const std::optional<uint64_t> value = form.parse(text);
    const bool wide = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    if (!value.has_value()) {
      return Wrong(path, absl::StrCat("expected ", form.example));
    }
    constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
    if (!wide && *value > kMost) {
      return lines_.ErrorAt(path, "too large", absl::StrCat("at most ", kMost));
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
      return Scalar(FormOfField(field).print(reflection.GetUInt64(message, &field)));
    default:
      return Scalar(FormOfField(field).print(reflection.GetUInt32(message, &field)));
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
