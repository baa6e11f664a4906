// TSan's settings for this build, so that every binary has them however it is started. Only for
// TSan builds.

extern "C" {

// Debian's libraries are not instrumented: what orders threads inside them is invisible. The daemon
// leaves its threads to the kernel when it exits.
const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:halt_on_error=1:second_deadlock_stack=1:"
         "report_thread_leaks=0";
}

// gRPC's headers hold code that is instrumented here while the locks around it lie in the library.
// CallbackWithSuccessTag::Set writes the std::function that another thread runs;
// ServerCallbackCall's constructor and both Unref make and count down the references of a call, and
// call nothing of ours. A ring of io_uring is one thread's alone; liburing maps and unmaps it by
// system calls that nobody sees, so that the next thread's ring, at the same address, looks like
// the one before.
const char* __tsan_default_suppressions() {
  return "race:grpc::internal::InterceptorBatchMethodsImpl\n"
         "race:^grpc::internal::CallbackWithSuccessTag::Set(\n"
         "race:^grpc::internal::ServerCallbackCall::ServerCallbackCall(\n"
         "race:^grpc::internal::ServerCallbackCall::Unref(\n"
         "race:^grpc::experimental::ServerRpcInfo::Unref(\n"
         "race_top:/usr/include/grpcpp/\n"
         "race_top:/usr/include/liburing.h\n";
}

}  // extern "C"
