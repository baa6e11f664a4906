#include "daemon/config_reloader.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/config_difference.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

// Whoever saves a file may do so in several steps.
constexpr int kQuietMilliseconds = 200;
constexpr absl::Duration kLongestUnrest = absl::Seconds(2);

void LogRefused(absl::string_view why, const absl::Status& error) {
  Log(LogLevel::kError, "config.refused",
      {{"by", why}, {"error", error.message()}, {"hint", HintOf(error)}});
}

void LogReloaded(absl::string_view why, const v1::ReloadConfigResponse& changes) {
  Log(LogLevel::kInfo, "config.reloaded",
      {{"by", why},
       {"added", absl::StrJoin(changes.added(), ",")},
       {"changed", absl::StrJoin(changes.changed(), ",")},
       {"removed", absl::StrJoin(changes.removed(), ",")}});
  if (!changes.needs_restart().empty()) {
    Log(LogLevel::kWarning, "config.needs_restart",
        {{"fields", absl::StrJoin(changes.needs_restart(), ",")}});
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ConfigReloader>> ConfigReloader::Start(v1::Config running,
                                                                      ConfigFile file,
                                                                      UseModels use_models) {
  sigset_t hang_up;
  sigemptyset(&hang_up);
  sigaddset(&hang_up, SIGHUP);
  Fd signals(signalfd(-1, &hang_up, SFD_CLOEXEC | SFD_NONBLOCK));
  Fd done(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signals.valid() || !done.valid()) {
    return ErrnoError(errno, "watch for SIGHUP");
  }
  std::unique_ptr<ConfigReloader> reloader(new ConfigReloader(std::move(running), std::move(file),
                                                              std::move(use_models),
                                                              std::move(signals), std::move(done)));
  reloader->StartWatch();
  reloader->thread_ = std::thread([self = reloader.get()] { self->Run(); });
  return reloader;
}

ConfigReloader::~ConfigReloader() {
  eventfd_write(done_.get(), 1);
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ConfigReloader::StartWatch() {
  if (file_.path.empty()) {
    return;
  }
  absl::StatusOr<FileWatch> watch = FileWatch::Of(file_.path);
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    Log(LogLevel::kWarning, "config.not_watched",
        {{"file", file_.path}, {"error", watch.status().message()}});
  }
}

absl::StatusOr<v1::ReloadConfigResponse> ConfigReloader::Reload(absl::string_view why) {
  absl::MutexLock lock(&mutex_);
  absl::StatusOr<v1::ReloadConfigResponse> changes = ReadAndUse();
  if (changes.ok()) {
    LogReloaded(why, *changes);
  } else {
    LogRefused(why, changes.status());
  }
  return changes;
}

absl::StatusOr<v1::ReloadConfigResponse> ConfigReloader::ReadAndUse() {
  if (file_.path.empty()) {
    return Error(Reason::kInvalidArgument, "the daemon runs without a config file",
                 "start it with --config FILE");
  }
  ASSIGN_OR_RETURN(const v1::Config config, file_.read(!running_.models().empty()));
  v1::ReloadConfigResponse changes = DifferenceOf(running_, config);
  v1::Config next = running_;
  *next.mutable_models() = config.models();
  next.mutable_log()->set_level(config.log().level());
  RETURN_IF_ERROR(use_models_(next));
  // One that operators set meanwhile stays unless the file's is another one.
  if (next.log().level() != running_.log().level()) {
    RETURN_IF_ERROR(ChangeLogLevel(next.log().level()).status());
  }
  running_ = std::move(next);
  return changes;
}

void ConfigReloader::Run() {
  while (true) {
    pollfd waits[] = {{done_.get(), POLLIN, 0},
                      {signals_.get(), POLLIN, 0},
                      {watch_.has_value() ? watch_->descriptor() : -1, POLLIN, 0}};
    while (poll(waits, 3, -1) < 0 && errno == EINTR) {
    }
    if (waits[0].revents != 0) {
      return;
    }
    if (waits[1].revents != 0) {
      signalfd_siginfo info{};
      if (read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
        Reload("signal").IgnoreError();
      }
    }
    if (waits[2].revents != 0) {
      if (!AwaitQuiet()) {
        return;
      }
      if (watch_->Changed()) {
        Reload("file").IgnoreError();
      }
    }
  }
}

bool ConfigReloader::AwaitQuiet() {
  const absl::Time deadline = absl::Now() + kLongestUnrest;
  watch_->TakeEvents();
  while (absl::Now() < deadline) {
    pollfd waits[] = {{done_.get(), POLLIN, 0}, {watch_->descriptor(), POLLIN, 0}};
    const int ready = poll(waits, 2, kQuietMilliseconds);
    if (ready == 0) {
      return true;
    }
    if (waits[0].revents != 0) {
      return false;
    }
    watch_->TakeEvents();
  }
  return true;
}

}  // namespace weightd
