#ifndef WEIGHTD_DAEMON_CONFIG_RELOADER_H_
#define WEIGHTD_DAEMON_CONFIG_RELOADER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "daemon/file_watch.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Where the config comes from.
struct ConfigFile {
  // Empty: there is no file.
  std::string path;
  // Reads and checks it, with flags and environment applied; with `needs_models` it must have a
  // list of models. Waits for nobody who may write. Called by one thread at a time.
  std::function<absl::StatusOr<v1::Config>(bool needs_models)> read;
};

// Reads the config file again: on SIGHUP (which is blocked, see PrepareProcess), when the file
// changes, and when asked. Of what it says then the model list and the log's level are kept from
// now on; what else differs is told and takes a restart. A file with a mistake, or none, changes
// nothing, nor does one without a list of models where the daemon has models. All of it is logged.
// Thread-safe. One thread, which sleeps until something happens.
class ConfigReloader {
 public:
  // Makes the models of that config the daemon's. Called by one thread at a time.
  using UseModels = std::function<absl::Status(const v1::Config&)>;

  // `running` is what the daemon runs with.
  static absl::StatusOr<std::unique_ptr<ConfigReloader>> Start(v1::Config running, ConfigFile file,
                                                               UseModels use_models);
  // Waits for a reading under way.
  ~ConfigReloader();
  ConfigReloader(const ConfigReloader&) = delete;

  // kInvalidArgument for a config that can't be used. `why` is for the log.
  absl::StatusOr<v1::ReloadConfigResponse> Reload(absl::string_view why)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  ConfigReloader(v1::Config running, ConfigFile file, UseModels use_models, Fd signals, Fd done)
      : file_(std::move(file)),
        use_models_(std::move(use_models)),
        signals_(std::move(signals)),
        done_(std::move(done)),
        running_(std::move(running)) {}

  absl::StatusOr<v1::ReloadConfigResponse> ReadAndUse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartWatch();
  void Run();
  // Until nothing more happens around the file, for a moment; false if our owner is done.
  bool AwaitQuiet();

  const ConfigFile file_;
  const UseModels use_models_;
  const Fd signals_;
  const Fd done_;
  // Only the thread uses it. None if there is no file, or it can't be watched.
  std::optional<FileWatch> watch_;

  absl::Mutex mutex_;
  // With the models and the log's level that are in force.
  v1::Config running_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_RELOADER_H_
