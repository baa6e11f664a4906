#include "daemon/event_lines.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"
#include "common/uri.h"
#include "daemon/cache/events.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

std::string LineOf(const cache::Event& event) {
  const EventLine line = EventLineOf(event);
  return LogLine(LogFormat::kText, "T", line.level, line.name, line.fields);
}

cache::Event LoadOf(cache::EventKind kind) {
  return {.time = {},
          .kind = kind,
          .uri = *Uri::Parse("https://host/m"),
          .revision = {},
          .lease = {},
          .error = {},
          .request_id = "00ff"};
}

TEST(EventLine, HasNoFieldsWithoutAValue) {
  EXPECT_EQ(LineOf(LoadOf(cache::EventKind::kLoadStarted)),
            "T info    load.started model=\"https://host/m\" request_id=\"00ff\"");
  cache::Event lost = LoadOf(cache::EventKind::kGpuLost);
  lost.uri = Uri();
  lost.error = Error(Reason::kDeviceUnavailable, "its worker ended");
  lost.request_id = "";
  EXPECT_EQ(LineOf(lost), "T error   gpu.lost error=\"its worker ended\"");
}

TEST(EventLine, OfTheNodeItselfHasNoModel) {
  cache::Event event = LoadOf(cache::EventKind::kNodeDraining);
  event.uri = Uri();
  event.request_id = "";
  EXPECT_EQ(LineOf(event), "T info    node.draining");
  event.kind = cache::EventKind::kNodeDrained;
  event.bytes = 4096;
  EXPECT_EQ(LineOf(event), "T info    node.drained bytes=4096");
  event.handed = cache::HandedOver{.kept_models = 2, .kept_bytes = 4096, .lost_models = 1};
  EXPECT_EQ(LineOf(event), "T info    node.drained bytes=4096 kept_models=2 lost_models=1");
  event.handed.reset();
  event.kind = cache::EventKind::kNodeResumed;
  event.bytes = 0;
  EXPECT_EQ(LineOf(event), "T info    node.resumed");
}

TEST(EventLine, SaysWhatToDoAboutWhatAnEarlierDaemonLeft) {
  cache::Event event = LoadOf(cache::EventKind::kNotReadopted);
  event.request_id = "";
  event.error = Error(Reason::kVerificationFailed, "no card", "nothing");
  EXPECT_EQ(LineOf(event),
            "T warning model.not_readopted model=\"https://host/m\" error=\"no card\" "
            "hint=\"nothing\"");
  event.uri = Uri();
  event.unknown_descriptors = 2;
  event.error = Error(Reason::kVerificationFailed, "2 descriptors", "find out whose");
  EXPECT_EQ(LineOf(event),
            "T warning keeper.unknown error=\"2 descriptors\" hint=\"find out whose\"");
}

TEST(EventLine, SaysWhatWasLoadedAndWhyNot) {
  cache::Event finished = LoadOf(cache::EventKind::kLoadFinished);
  finished.bytes = 4096;
  EXPECT_EQ(LineOf(finished),
            "T info    load.finished model=\"https://host/m\" bytes=4096 request_id=\"00ff\"");
  cache::Event failed = LoadOf(cache::EventKind::kLoadFailed);
  failed.error = Error(Reason::kModelNotFound, "no such object");
  EXPECT_EQ(LineOf(failed),
            "T warning load.failed model=\"https://host/m\" error=\"no such object\" "
            "request_id=\"00ff\"");
}

}  // namespace
}  // namespace weightd
