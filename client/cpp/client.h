#ifndef WEIGHTD_CLIENT_CPP_CLIENT_H_
#define WEIGHTD_CLIENT_CPP_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cpp/device_model.h"
#include "client/cpp/model.h"

// Maps models of this node's weightd:
//
//   ASSIGN_OR_RETURN(auto client, Client::Connect());
//   ASSIGN_OR_RETURN(auto model, client.Attach("https://models.example/llama/"));
//   ASSIGN_OR_RETURN(auto tensor, model.tensor("lm_head.weight"));
//   ASSIGN_OR_RETURN(auto values, tensor.As<float>());
//
// and in a GPU's memory:
//
//   ASSIGN_OR_RETURN(auto on_gpu, client.AttachToDevice("https://models.example/llama/"));
//   ASSIGN_OR_RETURN(auto weight, on_gpu.tensor("lm_head.weight"));
//   Launch(weight.pointer(), weight.nbytes());
//
// Errors carry a reason and a hint (common/status.h). A daemon that is not there is UNAVAILABLE.

namespace weightd::client {

struct ConnectOptions {
  // Folder of the daemon's sockets. Empty: the environment variable WEIGHTD_DIR, then /run/weightd.
  std::string socket_dir;
  // Also for a daemon that was killed and comes again.
  absl::Duration timeout = absl::Seconds(5);
};

// The values are those of LoadPhase in proto/weightd/v1/weights.proto.
enum class LoadPhase {
  kUnspecified = 0,
  kQueued = 1,
  kResolving = 2,
  kReserving = 3,
  kTransferring = 4,
  kSealing = 5,
  kDone = 6,
  kCopying = 7,
};

struct LoadProgress {
  LoadPhase phase = LoadPhase::kUnspecified;
  // Bytes of weights; total is 0 until it is known.
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct AttachOptions {
  // Of the whole attach, a load included. DEADLINE_EXCEEDED afterwards. While no daemon serves, the
  // next one is waited for: until then, or, where this is left as it is, for half a minute.
  absl::Duration timeout = absl::Hours(1);
  // FAILED_PRECONDITION (kModelNotResident) instead of loading what is not on the node.
  bool resident_only = false;
  // Only this revision (64 hexadecimal digits, or a prefix of at least 8); empty: the current one.
  std::string revision;
  // DATA_LOSS (kVerificationFailed) unless these files have this SHA-256: 64 hexadecimal digits by
  // file name; "" is the model's only file.
  std::map<std::string, std::string> sha256;
  // Of host memory; see DeviceMode for a GPU's.
  Access access = Access::kPrivateWritable;
  // Called in the attaching thread while the model loads.
  std::function<void(const LoadProgress&)> progress;
};

// One session with the daemon. Thread-safe: attaches of several threads run side by side. The
// session ends when the client and every model attached through it are gone; the daemon then drops
// what leases are left. When the daemon was restarted, an attach waits for the next one
// (AttachOptions::timeout), and takes a lease of that one on what is mapped, too, if it kept it:
// mappings stay good in any case. An attach whose lease is evicted before it has claimed it asks
// once more. In a child after fork() an inherited client refuses to attach.
class Client {
 public:
  static absl::StatusOr<Client> Connect(const ConnectOptions& options = {});

  // `model` is a URI (file:///…, http(s)://…, s3://bucket/…, hf://organisation/name@revision/: one
  // weight file, or a folder or prefix), an absolute path, or an alias of the daemon's config.
  absl::StatusOr<Model> Attach(absl::string_view model, const AttachOptions& options = {}) const;

  // The same in the memory of a GPU that this process sees, which the daemon fills if it must. The
  // GPU's primary context is retained, and made if there is none yet.
  // FAILED_PRECONDITION (kDeviceNotVisible) if this process has no driver or sees no such GPU.
  absl::StatusOr<DeviceModel> AttachToDevice(absl::string_view model,
                                             const DeviceOptions& device = {},
                                             const AttachOptions& options = {}) const;

  // As the daemon that answered last reports it.
  std::string daemon_version() const;

  // Implementation.
  class Connection;
  class Link;

 private:
  explicit Client(std::shared_ptr<Link> link) : link_(std::move(link)) {}

  std::shared_ptr<Link> link_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_CLIENT_H_
