#include "client/cli/json_writer.h"

#include <google/protobuf/message.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/utf8.h"

namespace weightd::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

absl::Duration SecondsAndNanos(const google::protobuf::Message& message) {
  const auto* const descriptor = message.GetDescriptor();
  const Reflection* const reflection = message.GetReflection();
  return absl::Seconds(reflection->GetInt64(message, descriptor->FindFieldByName("seconds"))) +
         absl::Nanoseconds(reflection->GetInt32(message, descriptor->FindFieldByName("nanos")));
}

// The element `index` of a repeated field, or a singular field for index -1.
class FieldValue {
 public:
  FieldValue(const google::protobuf::Message& message, const FieldDescriptor* field, int index)
      : message_(message),
        reflection_(message.GetReflection()),
        field_(field),
        index_(field->is_repeated() ? index : -1) {}

  void Write(JsonWriter& writer) const {
    switch (field_->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT32:
        writer.Number(uint64_t{Get(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32)});
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        writer.Number(uint64_t{Get(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64)});
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        writer.Signed(Get(&Reflection::GetInt32, &Reflection::GetRepeatedInt32));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        writer.Signed(Get(&Reflection::GetInt64, &Reflection::GetRepeatedInt64));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        writer.Number(Get(&Reflection::GetDouble, &Reflection::GetRepeatedDouble));
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        writer.Number(double{Get(&Reflection::GetFloat, &Reflection::GetRepeatedFloat)});
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        writer.Bool(Get(&Reflection::GetBool, &Reflection::GetRepeatedBool));
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        writer.String(Get(&Reflection::GetEnum, &Reflection::GetRepeatedEnum)->name());
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        writer.String(Get(&Reflection::GetString, &Reflection::GetRepeatedString));
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        writer.Message(index_ < 0 ? reflection_->GetMessage(message_, field_)
                                  : reflection_->GetRepeatedMessage(message_, field_, index_));
        break;
    }
  }

 private:
  template <typename T>
  T Get(T (Reflection::*single)(const google::protobuf::Message&, const FieldDescriptor*) const,
        T (Reflection::*repeated)(const google::protobuf::Message&, const FieldDescriptor*, int)
            const) const {
    return index_ < 0 ? (reflection_->*single)(message_, field_)
                      : (reflection_->*repeated)(message_, field_, index_);
  }

  const google::protobuf::Message& message_;
  const Reflection* const reflection_;
  const FieldDescriptor* const field_;
  const int index_;
};

void WriteMap(const google::protobuf::Message& message, const FieldDescriptor* field,
              JsonWriter& writer) {
  const Reflection* const reflection = message.GetReflection();
  writer.BeginObject();
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const auto& entry = reflection->GetRepeatedMessage(message, field, i);
    writer.Key(entry.GetReflection()->GetString(entry, field->message_type()->map_key()));
    FieldValue(entry, field->message_type()->map_value(), -1).Write(writer);
  }
  writer.EndObject();
}

void WriteField(const google::protobuf::Message& message, const FieldDescriptor* field,
                JsonWriter& writer) {
  if (field->is_map()) {
    WriteMap(message, field, writer);
  } else if (field->is_repeated()) {
    writer.BeginArray();
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      FieldValue(message, field, i).Write(writer);
    }
    writer.EndArray();
  } else {
    FieldValue(message, field, -1).Write(writer);
  }
}

}  // namespace

void JsonWriter::BeginValue() {
  if (needs_comma_) {
    text_.push_back(',');
  }
  needs_comma_ = true;
}

JsonWriter& JsonWriter::BeginObject() {
  BeginValue();
  text_.push_back('{');
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::EndObject() {
  text_.push_back('}');
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::BeginArray() {
  BeginValue();
  text_.push_back('[');
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::EndArray() {
  text_.push_back(']');
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(absl::string_view key) {
  String(key);
  text_.push_back(':');
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(absl::string_view value) {
  BeginValue();
  text_.push_back('"');
  for (const char c : ToUtf8(value)) {
    if (c == '"' || c == '\\') {
      text_.push_back('\\');
      text_.push_back(c);
    } else if (c == '\n') {
      text_ += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(&text_, "\\u", absl::Hex(c, absl::kZeroPad4));
    } else {
      text_.push_back(c);
    }
  }
  text_.push_back('"');
  return *this;
}

JsonWriter& JsonWriter::Number(uint64_t value) {
  BeginValue();
  absl::StrAppend(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::Number(double value) {
  BeginValue();
  absl::StrAppendFormat(&text_, "%.6g", value);
  return *this;
}

JsonWriter& JsonWriter::Signed(int64_t value) {
  BeginValue();
  absl::StrAppend(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::Bool(bool value) {
  BeginValue();
  text_ += value ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::Message(const google::protobuf::Message& message) {
  const auto* const descriptor = message.GetDescriptor();
  if (descriptor->full_name() == "google.protobuf.Timestamp") {
    return String(absl::FormatTime(absl::RFC3339_full, absl::UnixEpoch() + SecondsAndNanos(message),
                                   absl::UTCTimeZone()));
  }
  if (descriptor->full_name() == "google.protobuf.Duration") {
    return Number(absl::ToDoubleSeconds(SecondsAndNanos(message)));
  }
  BeginObject();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* const field = descriptor->field(i);
    if (field->has_presence() && !message.GetReflection()->HasField(message, field)) {
      continue;
    }
    Key(field->name());
    WriteField(message, field, *this);
  }
  return EndObject();
}

}  // namespace weightd::cli
