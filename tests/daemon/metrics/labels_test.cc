#include "daemon/metrics/labels.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/status.h"
#include "daemon/metrics/node.h"
#include "daemon/pipeline/progress.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/error.pb.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::metrics {
namespace {

// Those that only clients find.
constexpr int kFirstOfClients = 70;

TEST(Labels, ReasonsAreNamedAsInTheProto) {
  const google::protobuf::EnumDescriptor& reasons = *v1::ErrorReason_descriptor();
  for (int i = 1; i < reasons.value_count(); ++i) {
    const google::protobuf::EnumValueDescriptor& reason = *reasons.value(i);
    const std::string label = LabelOf(static_cast<Reason>(reason.number()));
    if (reason.number() < kFirstOfClients) {
      EXPECT_EQ(label, absl::AsciiStrToLower(reason.name()));
    } else {
      EXPECT_EQ(label, "internal");
    }
  }
  EXPECT_EQ(LabelOf(Reason::kUnspecified), "ok");
}

TEST(Labels, PhasesAreNamedAsInTheProtoAndAllAreTimed) {
  std::vector<std::string> timed;
  for (const pipeline::Phase phase : pipeline::kTimedPhases) {
    timed.push_back(LabelOf(phase));
  }
  const google::protobuf::EnumDescriptor& phases = *v1::LoadPhase_descriptor();
  for (int i = 1; i < phases.value_count(); ++i) {
    const std::string name = absl::AsciiStrToLower(phases.value(i)->name());
    EXPECT_EQ(LabelOf(static_cast<pipeline::Phase>(phases.value(i)->number())), name);
    EXPECT_TRUE(name == "done" || std::count(timed.begin(), timed.end(), name) == 1) << name;
  }
}

TEST(Labels, StatesOfConfiguredModelsAreThoseOfTheProto) {
  std::vector<std::string> states;
  const google::protobuf::EnumDescriptor& in_proto = *v1::ConfiguredModel::State_descriptor();
  for (int i = 1; i < in_proto.value_count(); ++i) {
    states.push_back(absl::AsciiStrToLower(in_proto.value(i)->name()));
  }
  EXPECT_THAT(states, ::testing::ElementsAreArray(kConfiguredStates));
}

}  // namespace
}  // namespace weightd::metrics
