#include "client/cli/watch/screen.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/text.h"

namespace weightd::cli {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr Style kAscii = {.colours = false, .utf8 = false};
constexpr Style kUtf8 = {.colours = false, .utf8 = true};

absl::Time Now() { return absl::UnixEpoch() + absl::Hours(12); }

v1::ModelSummary ModelOf(const std::string& name, v1::ModelState state) {
  v1::ModelSummary model;
  model.set_model(name);
  model.set_state(state);
  model.set_host_bytes(2 * kGiB);
  return model;
}

// A host with all kinds of bytes, one model that loads, one that is pinned.
WatchView View() {
  WatchView view;
  view.answered_at = Now();
  view.status.set_version("1.2.3");
  view.status.mutable_uptime()->set_seconds(200);
  view.status.set_sessions(1);
  view.status.set_leases(2);
  view.status.set_loads_running(1);
  v1::TierStatus& host = *view.status.mutable_host();
  host.set_budget(16 * kGiB);
  host.set_resident(4 * kGiB);
  host.set_loading(4 * kGiB);
  host.set_draining(2 * kGiB);
  host.set_ready(2 * kGiB);
  v1::ListenerStatus& listener = *view.status.add_listeners();
  listener.set_name("default");
  listener.set_sessions(1);
  listener.set_leases(2);
  listener.set_leased_bytes(kGiB);
  listener.set_draining_bytes(kGiB);
  listener.set_max_bytes(4 * kGiB);
  v1::ModelSummary pinned = ModelOf("https://models.example/mini/", v1::RESIDENT);
  pinned.add_aliases("mini");
  pinned.set_pinned(true);
  pinned.set_stale(true);
  pinned.set_leases(2);
  view.models.push_back(pinned);
  v1::ModelSummary loading = ModelOf("https://models.example/llama/", v1::LOADING);
  loading.mutable_progress()->set_phase(v1::TRANSFERRING);
  loading.mutable_progress()->set_bytes_done(kGiB);
  loading.mutable_progress()->set_bytes_total(4 * kGiB);
  view.models.push_back(loading);
  view.rates["https://models.example/llama/"] = static_cast<double>(kGiB) / 2;
  v1::WatchEventsResponse event;
  event.mutable_event()->mutable_time()->set_seconds(12 * 3600 - 1);
  event.mutable_event()->set_kind(v1::Event::LEASE_GRANTED);
  event.mutable_event()->set_model("https://models.example/mini/");
  event.mutable_event()->set_lease_id(7);
  event.mutable_event()->mutable_took()->set_nanos(2'000'000);
  event.mutable_event()->set_listener("default");
  view.events.push_back(event);
  return view;
}

std::vector<std::string> Draw(const WatchView& view, size_t columns = 100, size_t rows = 24,
                              const Style& style = kAscii) {
  return RenderScreen(view, Now(), {columns, rows}, style);
}

std::string Text(const std::vector<std::string>& lines) {
  return absl::StrCat(absl::StrJoin(lines, "\n"), "\n");
}

TEST(ScreenTest, ShowsTiersModelsListenersAndEvents) {
  EXPECT_EQ(Text(Draw(View())),
            "weightd 1.2.3  up 3m 20s  1 session  2 leases  1 load"
            "                                      12:00:00Z\n"
            "host  [########========----....        ]  10 GiB of 16 GiB  # resident 4.0 GiB  "
            "= loading 4.0 GiB\n"
            "MODELS (2)                     STATE          SIZE  LEASES\n"
            "https://models.example/llama/  [======                  ]   25%  6s left  512 MiB/s  "
            "of 4.0 GiB\n"
            "mini                           resident    2.0 GiB       2  pinned, stale\n"
            "LISTENERS (1)\n"
            "default  1 session  2 leases  [###--     ]  2.0 GiB of 4.0 GiB  draining 1.0 GiB\n"
            "LAST EVENTS\n"
            "11:59:59  lease_granted mini lease 7 in 2ms by default\n");
}

TEST(ScreenTest, FitsAnySize) {
  WatchView view = View();
  for (int i = 0; i < 50; ++i) {
    view.models.push_back(ModelOf(absl::StrCat("s3://bucket/a/long/folder/model-", i, "-é…"),
                                  i % 7 == 0 ? v1::LOADING : v1::RESIDENT));
    view.events.push_back(view.events.front());
  }
  for (size_t columns = 1; columns < 240; columns += 3) {
    for (size_t rows = 1; rows < 70; rows += 3) {
      for (const Style& style : {kAscii, kUtf8}) {
        const auto lines = Draw(view, columns, rows, style);
        EXPECT_LE(lines.size(), rows);
        for (const std::string& line : lines) {
          EXPECT_LE(DisplayWidth(line), columns) << line;
        }
      }
    }
  }
}

TEST(ScreenTest, SaysHowMuchDoesNotFit) {
  WatchView view = View();
  for (int i = 0; i < 50; ++i) {
    view.models.push_back(ModelOf(absl::StrCat("m", i), v1::RESIDENT));
  }
  const auto lines = Draw(view, 100, 24);
  EXPECT_EQ(lines.size(), 24u);
  const std::string text = Text(lines);
  // 52 models: 24 rows less those of the head, the host, the listener and the event, and the title.
  EXPECT_TRUE(absl::StrContains(text, "\nand 36 more\n")) << text;
  // What changes is seen, whatever its name.
  EXPECT_TRUE(absl::StrContains(text, "llama/  [==")) << text;
  EXPECT_TRUE(absl::StrContains(text, "LAST EVENTS\n11:59:59")) << text;
}

TEST(ScreenTest, KeepsWhatMattersAtFortyColumns) {
  const std::string text = Text(Draw(View(), 40, 24));
  EXPECT_TRUE(absl::StrContains(text, "\nhost  [##")) << text;
  EXPECT_TRUE(absl::StrContains(text, "]  10 GiB of 16 GiB")) << text;
  EXPECT_TRUE(absl::StrContains(text, "/llama/  [")) << text;
  EXPECT_TRUE(absl::StrContains(text, "25%")) << text;
  EXPECT_TRUE(absl::StrContains(text, "resident    2.0 GiB\n")) << text;
}

TEST(ScreenTest, NewestEventsStay) {
  WatchView view = View();
  for (int i = 0; i < 50; ++i) {
    view.events.push_back(view.events.front());
    view.events.back().mutable_event()->set_lease_id(100 + i);
  }
  const std::string text = Text(Draw(view, 100, 12));
  EXPECT_TRUE(absl::StrContains(text, "lease 149 ")) << text;
  EXPECT_FALSE(absl::StrContains(text, "lease 101 ")) << text;
}

TEST(ScreenTest, NamesPromisesThatAreNotKept) {
  WatchView view = View();
  v1::ConfiguredModel model;
  model.set_name("ready");
  model.set_state(v1::ConfiguredModel::READY);
  view.configured.push_back(model);
  EXPECT_FALSE(absl::StrContains(Text(Draw(view)), "CONFIGURED"));
  model.set_name("llama");
  model.set_state(v1::ConfiguredModel::RETRYING);
  model.set_failures(3);
  model.set_last_error("no such\nhost");
  model.mutable_next_try_at()->set_seconds(12 * 3600 + 15);
  view.configured.push_back(model);
  const std::string text = Text(Draw(view));
  EXPECT_TRUE(absl::StrContains(text, "CONFIGURED, NOT READY (1)\nllama ")) << text;
  EXPECT_TRUE(absl::StrContains(text, "retrying in 15s  failed 3 times: no such\\x0ahost\n"))
      << text;
}

TEST(ScreenTest, ShowsEachGpu) {
  WatchView view = View();
  for (int i = 0; i < 2; ++i) {
    v1::GpuStatus& gpu = *view.status.add_gpus();
    gpu.set_index(i);
    gpu.set_uuid(absl::StrCat("GPU-", i));
    gpu.set_name("H200");
    gpu.set_state(i == 0 ? v1::GpuStatus::RUNNING : v1::GpuStatus::DRAINED);
    gpu.mutable_tier()->set_budget(80 * kGiB);
    gpu.mutable_tier()->set_resident(40 * kGiB);
  }
  view.models[0].add_gpu_copies()->set_gpu("GPU-1");
  const std::string text = Text(Draw(view));
  EXPECT_TRUE(absl::StrContains(text, "\nGPU 0 H200  [################    ")) << text;
  EXPECT_TRUE(absl::StrContains(text, "40 GiB of 80 GiB  drained")) << text;
  EXPECT_TRUE(absl::StrContains(text, "pinned, stale, GPU 1\n")) << text;
}

TEST(ScreenTest, SaysThatTheDaemonIsGone) {
  WatchView view = View();
  view.trouble = absl::UnavailableError("connection refused");
  view.trouble_since = Now() - absl::Seconds(12);
  EXPECT_EQ(Draw(view)[1], "no answer since 12s: connection refused");
  EXPECT_EQ(Draw(WatchView())[0], "weightd: waiting for its first answer");
}

TEST(ScreenTest, ColoursAndBlocksOnlyWhereTheyCanBeSeen) {
  const std::string coloured = Text(Draw(View(), 100, 24, {.colours = true, .utf8 = true}));
  EXPECT_TRUE(absl::StrContains(coloured, "\x1b[32m████████\x1b[0m\x1b[36m▓▓▓▓▓▓▓▓\x1b[0m"))
      << coloured;
  const std::string plain = Text(Draw(View()));
  EXPECT_TRUE(std::all_of(plain.begin(), plain.end(), [](char c) {
    return c == '\n' || (c >= ' ' && c <= '~');
  })) << plain;
}

// A terminal obeys what it is sent.
TEST(ScreenTest, NamesAreNoCommands) {
  WatchView view = View();
  view.models[0].clear_aliases();
  view.models[0].set_model("file:///m\x1b[2J");
  for (const std::string& line : Draw(view, 100, 24, kUtf8)) {
    EXPECT_FALSE(absl::StrContains(line, "\x1b")) << line;
  }
}

TEST(ScreenTest, SurvivesNumbersThatMakeNoSense) {
  WatchView view = View();
  view.status.mutable_host()->set_budget(0);
  view.models[1].mutable_progress()->set_bytes_done(9 * kGiB);
  view.status.mutable_listeners(0)->set_leased_bytes(100 * kGiB);
  EXPECT_TRUE(absl::StrContains(Text(Draw(view)), "100%"));
}

}  // namespace
}  // namespace weightd::cli
