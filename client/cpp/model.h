#ifndef WEIGHTD_CLIENT_CPP_MODEL_H_
#define WEIGHTD_CLIENT_CPP_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/file_check.h"
#include "client/cpp/tensor.h"

namespace weightd::client {

// How the shared bytes are mapped.
enum class Access {
  // A store makes a page of this process's own and is seen by nobody else. Untouched pages cost
  // nothing.
  kPrivateWritable,
  // A store ends the process with SIGSEGV.
  kSharedReadOnly,
};

// A model mapped into this process, and the lease that keeps it on the node. Copies are cheap and
// share both; when the last one dies the memory is unmapped and the lease released (which waits up
// to a second for a daemon that is slow). Outlives its Client. Thread-safe. The daemon's end
// changes nothing: the bytes stay.
//
// After fork() the child may read and drop its copies; the lease stays the parent's, so a child
// that outlives its parent should attach for itself.
class Model {
 public:
  // Made by Client::Attach.
  class State;
  explicit Model(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  // URI as the daemon prints it: credentials and query redacted.
  const std::string& name() const;
  // 64 hexadecimal digits.
  const std::string& revision() const;
  // What the daemon verified of the files, by the time of the attach; not told for models of more
  // than 1,000 files.
  const std::vector<FileCheck>& verified() const;
  // The whole mapping.
  absl::Span<const std::byte> bytes() const;
  // What was mapped: read-only, though not asked for, where the kernel refuses private mappings.
  Access access() const;

  // The index is read at the first of these calls; an error is that of an index that does not fit
  // the segment (DATA_LOSS) and stays.

  // By any of its names: tied weights, which safetensors' save_model stores once, have several, and
  // ".weight", as tensorizer calls a tensor of a module itself, is also found as "weight".
  // NOT_FOUND if there is no such tensor.
  absl::StatusOr<Tensor> tensor(absl::string_view name) const;
  // All, ordered by name; valid while a copy of this lives. Tied weights are listed under each of
  // their names, as views of the same bytes: Tensor::alias_of() tells them from those that are
  // stored.
  absl::StatusOr<absl::Span<const Tensor>> tensors() const;
  // Free text of the files (`__metadata__` in safetensors).
  absl::StatusOr<std::map<std::string, std::string>> metadata() const;

  // What lies beside the weights of a model that is a folder (config.json, tokenizer.json and the
  // like), by its path in the folder; views that are valid while a copy of this lives. An error
  // (DATA_LOSS) if one doesn't lie in what the daemon sent, or its name would lead out of a folder.
  absl::StatusOr<std::map<std::string, absl::string_view>> files() const;
  // NOT_FOUND (kFileNotFound), with the reason if the folder has one that weightd doesn't keep.
  absl::StatusOr<absl::string_view> file(absl::string_view name) const;

 private:
  std::shared_ptr<const State> state_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_MODEL_H_
