#include "daemon/device/worker/main.h"

// A worker process for tests of its daemon's end.
int main(int argc, char** argv) { return weightd::device::GpuWorkerMain(argc, argv); }
