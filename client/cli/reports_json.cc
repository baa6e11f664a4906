#include <google/protobuf/message.h>

#include <string>

#include "client/cli/json_writer.h"
#include "client/cli/reports.h"

namespace weightd::cli {
namespace {

template <typename Messages>
void PrintList(absl::string_view key, const Messages& messages, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key(key).BeginArray();
  for (const auto& message : messages) {
    json.Message(message);
  }
  json.EndArray().EndObject();
  out << json.text() << '\n';
}

void WriteTensor(const InspectedTensor& tensor, JsonWriter& json) {
  const format::TensorEntry& entry = tensor.entry;
  json.BeginObject().Key("name").String(entry.name);
  json.Key("dtype").String(TypeNameOf(entry)).Key("shape").BeginArray();
  for (const uint64_t extent : entry.shape) {
    json.Number(extent);
  }
  json.EndArray().Key("offset").Number(entry.bytes.begin);
  json.Key("nbytes").Number(entry.nbytes);
  if (!tensor.file.empty()) {
    json.Key("file").String(tensor.file);
  }
  json.EndObject();
}

}  // namespace

void PrintJson(const google::protobuf::Message& message, std::ostream& out) {
  JsonWriter json;
  out << json.Message(message).text() << '\n' << std::flush;
}

void PrintModelsJson(const std::vector<v1::ModelSummary>& models, std::ostream& out) {
  PrintList("models", models, out);
}

void PrintConfiguredJson(const std::vector<v1::ConfiguredModel>& models, std::ostream& out) {
  PrintList("models", models, out);
}

void PrintLeasesJson(const std::vector<v1::Lease>& leases, std::ostream& out) {
  PrintList("leases", leases, out);
}

void PrintInspectedJson(const InspectedModel& model, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key("tensors").BeginArray();
  for (const InspectedTensor& tensor : model.tensors) {
    WriteTensor(tensor, json);
  }
  json.EndArray().Key("metadata").BeginObject();
  for (const auto& [key, value] : model.metadata) {
    json.Key(key).String(value);
  }
  json.EndObject().EndObject();
  out << json.text() << '\n';
}

void PrintPushedJson(const PushResult& result, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key("target").String(result.target.Redacted()).Key("files").BeginArray();
  for (const source::UploadedFile& file : result.files) {
    json.BeginObject().Key("file").String(file.path);
    json.Key("uri").String(file.object.Redacted());
    json.Key("bytes").Number(file.bytes).Key("bytes_sent").Number(file.bytes_sent);
    json.Key("was_there").Bool(file.was_there).EndObject();
  }
  json.EndArray().EndObject();
  out << json.text() << '\n';
}

void PrintConvertedJson(const ConvertResult& result, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key("target").String(result.target).Key("files").BeginArray();
  for (const convert::ConvertedFile& file : result.files) {
    json.BeginObject().Key("file").String(file.path);
    json.Key("bytes").Number(file.bytes).Key("tensors").Number(file.tensors).EndObject();
  }
  json.EndArray().EndObject();
  out << json.text() << '\n';
}

void PrintVerifiedJson(const std::vector<convert::VerifiedTensor>& tensors, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key("tensors").BeginArray();
  for (const convert::VerifiedTensor& tensor : tensors) {
    json.BeginObject().Key("file").String(tensor.file).Key("name").String(tensor.entry.name);
    json.Key("nbytes").Number(tensor.entry.nbytes).Key("crc32").Bool(tensor.found.crc32);
    json.Key("sha256").Bool(tensor.found.sha256).Key("poly1305").Bool(tensor.found.poly1305);
    json.Key("error").String(tensor.status.message()).EndObject();
  }
  json.EndArray().EndObject();
  out << json.text() << '\n';
}

void PrintFindingsJson(const std::vector<Finding>& findings, std::ostream& out) {
  JsonWriter json;
  json.BeginObject().Key("checks").BeginArray();
  for (const Finding& finding : findings) {
    json.BeginObject().Key("check").String(finding.check);
    json.Key("state").String(StateName(finding.state));
    json.Key("finding").String(finding.finding);
    json.Key("cost").String(finding.cost).Key("remedy").String(finding.remedy).EndObject();
  }
  json.EndArray().EndObject();
  out << json.text() << '\n';
}

}  // namespace weightd::cli
