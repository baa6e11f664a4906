#include "daemon/device/worker/main.h"

#include <unistd.h>

#include <iostream>
#include <utility>

#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/admin_tcp.h"
#include "daemon/command_line.h"
#include "daemon/config.h"
#include "daemon/configured_fd_store.h"
#include "daemon/daemon.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/inherited.h"
#include "daemon/heap_trimmer.h"
#include "daemon/logging.h"
#include "daemon/process.h"
#include "daemon/service_manager.h"

// Until a signal ends it.
static absl::Status Serve(const weightd::v1::Config& config, const weightd::CommandLine& line,
                          const weightd::ServiceManager& manager,
                          weightd::fd_store::Inherited inherited) {
  weightd::Cancellation stopping;
  ASSIGN_OR_RETURN(const auto signals, weightd::StopSignals::Start(&stopping, absl::Seconds(10)));
  ASSIGN_OR_RETURN(const auto fd_store,
                   weightd::OpenFdStore(config, manager.address(), std::move(inherited)));
  const auto daemon = weightd::Daemon::Start(
      config,
      {line.config_file,
       [&line](bool needs_models) { return weightd::ConfigAgain(line, needs_models); }},
      fd_store.get(), stopping);
  if (stopping.cancelled()) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(daemon.status());
  const weightd::HeapTrimmer trimmer;
  auto heartbeat = manager.Ready([&daemon] { return (*daemon)->Summary(); });
  signals->Wait();
  heartbeat.reset();
  manager.Stopping();
  (*daemon)->Stop();
  weightd::FlushFdStore(fd_store.get());
  weightd::StopLogging();
  // A large cache takes seconds to free, which nobody needs to wait for: the kernel does it.
  _exit(weightd::kExitOk);
}

int main(int argc, char** argv) {
  if (weightd::device::IsGpuWorker(argc, argv)) {
    return weightd::device::GpuWorkerMain(argc, argv);
  }
  int exit_code = 0;
  const auto line = weightd::ParseCommandLine(argc, argv, exit_code);
  if (!line.has_value()) {
    return exit_code;
  }
  const auto config = weightd::ConfigOf(*line);
  if (!config.ok()) {
    return weightd::ReportFailure(config.status());
  }
  if (line->print_config) {
    std::cout << weightd::PrintConfig(*config);
  }
  if (line->check_config) {
    // No mistake of the config, which may be meant for another machine.
    if (const absl::Status files = weightd::CheckAdminTcpFiles(config->admin().tcp());
        !files.ok()) {
      std::cerr << "weightd: on this machine it would not do: " << files.message() << '\n';
    }
  }
  if (line->print_config || line->check_config) {
    return weightd::kExitOk;
  }
  weightd::PrepareProcess();
  const auto manager = weightd::ServiceManager::FromEnvironment();
  auto inherited = weightd::fd_store::Inherited::FromEnvironment();
  weightd::StartLogging(*weightd::LogLevelFromName(config->log().level()),
                        *weightd::LogFormatFromName(config->log().format()));
  const absl::Status served = Serve(*config, *line, *manager, std::move(inherited));
  weightd::StopLogging();
  return served.ok() ? weightd::kExitOk : weightd::ReportFailure(served);
}
