#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_MAIN_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_MAIN_H_

namespace weightd::device {

// Whether this process was started to work on a GPU: "--gpu-worker" is its first argument.
bool IsGpuWorker(int argc, char** argv);

// All that such a process does; returns its exit code. To be called before anything else has
// started a thread or opened a file.
int GpuWorkerMain(int argc, char** argv);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_MAIN_H_
