#include "client/c/model_table.h"

#include "common/dtype.h"
#include "common/status.h"

namespace weightd::c {
namespace {

// A read-only mapping stays so: whoever writes gets SIGSEGV.
void* DataOf(const client::Tensor& tensor) { return const_cast<std::byte*>(tensor.bytes().data()); }

void* DataOf(const client::DeviceTensor& tensor) { return AsPointer(tensor.pointer()); }

}  // namespace

const char* ModelTable::Keep(absl::string_view text) {
  return strings_.emplace_back(text.data(), text.size()).c_str();
}

template <typename T>
void ModelTable::Add(const T& tensor, void* data) {
  weightd_tensor added = WEIGHTD_TENSOR_INIT;
  added.name = Keep(tensor.name());
  numbers_.emplace(strings_.back(), tensors_.size());
  added.dtype = Keep(DTypeName(tensor.dtype()));
  added.torch_type = tensor.torch_type().empty() ? nullptr : Keep(tensor.torch_type());
  added.alias_of = tensor.alias_of().empty() ? nullptr : Keep(tensor.alias_of());
  added.shape = tensor.shape().data();
  added.strides = tensor.strides().empty() ? nullptr : tensor.strides().data();
  added.rank = tensor.shape().size();
  added.nbytes = tensor.nbytes();
  added.data = data;
  tensors_.push_back(added);
}

absl::StatusOr<std::vector<weightd_file>> ModelTable::FilesOf(const AnyModel& model) {
  ASSIGN_OR_RETURN(const auto files,
                   std::visit([](const auto& any) { return any.files(); }, model));
  std::vector<weightd_file> found;
  found.reserve(files.size());
  for (const auto& [name, bytes] : files) {
    weightd_file added = WEIGHTD_FILE_INIT;
    added.name = Keep(name);
    added.bytes = bytes.data();
    added.nbytes = bytes.size();
    found.push_back(added);
  }
  return found;
}

absl::StatusOr<std::unique_ptr<const ModelTable>> ModelTable::Make(const AnyModel& model) {
  return std::visit(
      [](const auto& attached) -> absl::StatusOr<std::unique_ptr<const ModelTable>> {
        std::unique_ptr<ModelTable> table(new ModelTable());
        ASSIGN_OR_RETURN(const auto tensors, attached.tensors());
        ASSIGN_OR_RETURN(const auto metadata, attached.metadata());
        table->tensors_.reserve(tensors.size());
        for (const auto& tensor : tensors) {
          table->Add(tensor, DataOf(tensor));
        }
        table->metadata_.assign(metadata.begin(), metadata.end());
        table->files_ = table->FilesOf(attached);
        return table;
      },
      model);
}

std::optional<size_t> ModelTable::Find(absl::string_view name) const {
  const auto found = numbers_.find(std::string_view(name.data(), name.size()));
  return found == numbers_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace weightd::c
