#ifndef WEIGHTD_CLIENT_CLI_REPORTS_H_
#define WEIGHTD_CLIENT_CLI_REPORTS_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/convert.h"
#include "client/cli/doctor.h"
#include "client/cli/inspect.h"
#include "client/cli/push.h"
#include "weightd/v1/admin.pb.h"

// What commands found, for people (tables, relative to `now`) and for programs (one JSON value on a
// line).

namespace weightd::cli {

void PrintStatus(const v1::GetStatusResponse& status, std::ostream& out);
void PrintModels(const std::vector<v1::ModelSummary>& models, absl::Time now, std::ostream& out);
// A row for each, and below the table why workers ended; nothing without GPUs.
void PrintGpus(const google::protobuf::RepeatedPtrField<v1::GpuStatus>& gpus, std::ostream& out);
// One line: which GPU it is, and its state.
void PrintGpuLine(const v1::GpuStatus& gpu, std::ostream& out);
// What models outlive the daemon in, and what came of those that an earlier one left.
std::string KeeperText(const v1::GetStatusResponse& status);
std::string ReadoptionText(const v1::Readoption& readoption);
std::string NotReadoptedText(const v1::NotReadopted& one);
void PrintNodeDrained(const v1::DrainNodeResponse& drained, std::ostream& out);
void PrintDrained(const v1::DrainGpuResponse& drained, std::ostream& out);
// One line: what became of a model.
void PrintModelLine(const v1::ModelSummary& model, std::ostream& out);
void PrintDescription(const v1::DescribeModelResponse& description, std::ostream& out);
void PrintLeases(const std::vector<v1::Lease>& leases, absl::Time now, std::ostream& out);
void PrintEvicted(const v1::EvictResponse& evicted, std::ostream& out);
void PrintEvent(const v1::WatchEventsResponse& event, std::ostream& out);
// Names, or that nothing changed, and what takes a restart.
void PrintReloaded(const v1::ReloadConfigResponse& reloaded, std::ostream& out);
void PrintConfigured(const std::vector<v1::ConfiguredModel>& models, absl::Time now,
                     std::ostream& out);
// One line.
void PrintLogLevel(const v1::SetLogLevelResponse& set, const std::string& level, std::ostream& out);
void PrintInspected(const InspectedModel& model, std::ostream& out);
// One line: what went where.
void PrintPushed(const PushResult& result, std::ostream& out);
// A line for each file.
void PrintConverted(const ConvertResult& result, std::ostream& out);
// A row for each tensor, what is wrong below the table, and one line that sums it up.
void PrintVerified(const std::vector<convert::VerifiedTensor>& tensors, std::ostream& out);
void PrintFindings(const std::vector<Finding>& findings, std::ostream& out);

void PrintJson(const google::protobuf::Message& message, std::ostream& out);
void PrintModelsJson(const std::vector<v1::ModelSummary>& models, std::ostream& out);
void PrintConfiguredJson(const std::vector<v1::ConfiguredModel>& models, std::ostream& out);
void PrintLeasesJson(const std::vector<v1::Lease>& leases, std::ostream& out);
// {"tensors":[{"name","dtype","shape","offset","nbytes"},…],"metadata":{…}}; `offset` counts from
// the file's first byte. Tensors of a folder also have "file".
void PrintInspectedJson(const InspectedModel& model, std::ostream& out);
// {"target","files":[{"file","uri","bytes","bytes_sent","was_there"},…]}
void PrintPushedJson(const PushResult& result, std::ostream& out);
// {"target","files":[{"file","bytes","tensors"},…]}
void PrintConvertedJson(const ConvertResult& result, std::ostream& out);
// {"tensors":[{"file","name","nbytes","crc32","sha256","poly1305","error"},…]}; `error` is empty
// for a tensor with which nothing is wrong.
void PrintVerifiedJson(const std::vector<convert::VerifiedTensor>& tensors, std::ostream& out);
void PrintFindingsJson(const std::vector<Finding>& findings, std::ostream& out);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_REPORTS_H_
