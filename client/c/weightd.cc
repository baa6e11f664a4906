#include "client/c/include/weightd.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/c/error.h"
#include "client/c/model_table.h"
#include "client/c/options.h"
#include "client/cpp/client.h"
#include "common/status.h"
#include "common/version.h"

using weightd::Error;
using weightd::Reason;
using weightd::c::AnyModel;
using weightd::c::Guard;
using weightd::c::MissingArgument;
using weightd::c::ModelTable;
using weightd::client::Client;
using weightd::client::DeviceModel;
using weightd::client::Model;

struct weightd_model {
  explicit weightd_model(AnyModel attached)
      : model(std::move(attached)),
        uri(std::visit([](const auto& any) { return any.name(); }, model)),
        revision(std::visit([](const auto& any) { return any.revision(); }, model)) {
    if (const auto* on_gpu = std::get_if<DeviceModel>(&model)) {
      gpu = on_gpu->gpu().ToText();
    }
  }

  // Made at its first use, as the C++ client's: an attach costs the same for any number of tensors.
  absl::StatusOr<const ModelTable*> Table() const {
    absl::call_once(once, [this] { table = ModelTable::Make(model); });
    if (!table.ok()) {
      return table.status();
    }
    return table->get();
  }

  const AnyModel model;
  const std::string uri;
  const std::string revision;
  // Empty in host memory.
  std::string gpu;
  mutable absl::once_flag once;
  mutable absl::StatusOr<std::unique_ptr<const ModelTable>> table;
};

namespace {

absl::StatusOr<AnyModel> Attach(const char* model, const weightd_options* given) {
  if (model == nullptr) {
    return MissingArgument("model");
  }
  ASSIGN_OR_RETURN(const weightd::c::Options options, weightd::c::ReadOptions(given));
  ASSIGN_OR_RETURN(const Client client, Client::Connect(options.connect));
  if (options.device.has_value()) {
    ASSIGN_OR_RETURN(DeviceModel attached,
                     client.AttachToDevice(model, *options.device, options.attach));
    return attached;
  }
  ASSIGN_OR_RETURN(Model attached, client.Attach(model, options.attach));
  return attached;
}

// `what` is the struct's name without its prefix.
template <typename Struct>
absl::Status CopyOut(const Struct& from, Struct* to, absl::string_view what) {
  if (to == nullptr) {
    return MissingArgument(what);
  }
  const size_t size = to->size;
  // Larger than any header has it: the caller didn't set it.
  if (size < sizeof(size) || size > 4096) {
    return Error(Reason::kInvalidArgument, absl::StrCat("weightd_", what, " has size ", size),
                 absl::StrCat("begin with WEIGHTD_", absl::AsciiStrToUpper(what), "_INIT"));
  }
  std::memcpy(to, &from, std::min(size, sizeof(from)));
  to->size = size;
  return absl::OkStatus();
}

// Errors of a model are told with its URI.
template <typename Body>
weightd_error* WithTable(const weightd_model* model, const Body& body) {
  return Guard(model == nullptr ? "" : absl::string_view(model->uri), [&]() -> absl::Status {
    if (model == nullptr) {
      return MissingArgument("model");
    }
    ASSIGN_OR_RETURN(const ModelTable* const table, model->Table());
    return body(*table);
  });
}

absl::Status Beyond(absl::string_view what, size_t number, size_t count) {
  return Error(Reason::kInvalidArgument,
               absl::StrCat("there is no ", what, " number ", number, " of ", count),
               "numbers begin at 0");
}

}  // namespace

uint32_t weightd_abi_version(void) { return WEIGHTD_ABI_VERSION; }

const char* weightd_version(void) { return weightd::kVersion; }

weightd_error* weightd_attach(const char* model, const weightd_options* options,
                              weightd_model** attached) {
  return Guard(model == nullptr ? "" : model, [&]() -> absl::Status {
    if (attached == nullptr) {
      return MissingArgument("attached");
    }
    ASSIGN_OR_RETURN(AnyModel any, Attach(model, options));
    *attached = new weightd_model(std::move(any));
    return absl::OkStatus();
  });
}

void weightd_model_release(weightd_model* model) { delete model; }

const char* weightd_model_uri(const weightd_model* model) {
  return model == nullptr ? "" : model->uri.c_str();
}

const char* weightd_model_revision(const weightd_model* model) {
  return model == nullptr ? "" : model->revision.c_str();
}

const char* weightd_model_gpu(const weightd_model* model) {
  return model == nullptr || model->gpu.empty() ? nullptr : model->gpu.c_str();
}

int weightd_model_writable(const weightd_model* model) {
  if (model == nullptr) {
    return 0;
  }
  if (const auto* on_gpu = std::get_if<DeviceModel>(&model->model)) {
    return on_gpu->mode() == weightd::client::DeviceMode::kPrivate ? 1 : 0;
  }
  const auto access = std::get<Model>(model->model).access();
  return access == weightd::client::Access::kPrivateWritable ? 1 : 0;
}

void* weightd_model_data(const weightd_model* model) {
  if (model == nullptr) {
    return nullptr;
  }
  if (const auto* on_gpu = std::get_if<DeviceModel>(&model->model)) {
    return weightd::c::AsPointer(on_gpu->pointer());
  }
  return const_cast<std::byte*>(std::get<Model>(model->model).bytes().data());
}

uint64_t weightd_model_nbytes(const weightd_model* model) {
  if (model == nullptr) {
    return 0;
  }
  if (const auto* on_gpu = std::get_if<DeviceModel>(&model->model)) {
    return on_gpu->nbytes();
  }
  return std::get<Model>(model->model).bytes().size();
}

weightd_error* weightd_model_tensor_count(const weightd_model* model, size_t* count) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (count == nullptr) {
      return MissingArgument("count");
    }
    *count = table.tensors().size();
    return absl::OkStatus();
  });
}

weightd_error* weightd_model_tensor_at(const weightd_model* model, size_t number,
                                       weightd_tensor* tensor) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (number >= table.tensors().size()) {
      return Beyond("tensor", number, table.tensors().size());
    }
    return CopyOut(table.tensors()[number], tensor, "tensor");
  });
}

weightd_error* weightd_model_tensor(const weightd_model* model, const char* name,
                                    weightd_tensor* tensor) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (name == nullptr) {
      return MissingArgument("name");
    }
    return std::visit(
        [&](const auto& any) -> absl::Status {
          // By all the names that it goes by, not only the one that it is listed under.
          ASSIGN_OR_RETURN(const auto found, any.tensor(name));
          const std::optional<size_t> number = table.Find(found.name());
          return number.has_value()
                     ? CopyOut(table.tensors()[*number], tensor, "tensor")
                     : absl::InternalError(absl::StrCat(name, " is found and not listed"));
        },
        model->model);
  });
}

weightd_error* weightd_model_metadata_count(const weightd_model* model, size_t* count) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (count == nullptr) {
      return MissingArgument("count");
    }
    *count = table.metadata().size();
    return absl::OkStatus();
  });
}

weightd_error* weightd_model_metadata_at(const weightd_model* model, size_t number,
                                         const char** key, const char** value) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (key == nullptr || value == nullptr) {
      return MissingArgument("key or value");
    }
    if (number >= table.metadata().size()) {
      return Beyond("metadata", number, table.metadata().size());
    }
    *key = table.metadata()[number].first.c_str();
    *value = table.metadata()[number].second.c_str();
    return absl::OkStatus();
  });
}

weightd_error* weightd_model_file_count(const weightd_model* model, size_t* count) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (count == nullptr) {
      return MissingArgument("count");
    }
    RETURN_IF_ERROR(table.files().status());
    *count = table.files()->size();
    return absl::OkStatus();
  });
}

weightd_error* weightd_model_file_at(const weightd_model* model, size_t number,
                                     weightd_file* file) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    RETURN_IF_ERROR(table.files().status());
    if (number >= table.files()->size()) {
      return Beyond("file", number, table.files()->size());
    }
    return CopyOut((*table.files())[number], file, "file");
  });
}

weightd_error* weightd_model_file(const weightd_model* model, const char* name,
                                  weightd_file* file) {
  return WithTable(model, [&](const ModelTable& table) -> absl::Status {
    if (name == nullptr) {
      return MissingArgument("name");
    }
    RETURN_IF_ERROR(table.files().status());
    for (const weightd_file& known : *table.files()) {
      if (std::strcmp(known.name, name) == 0) {
        return CopyOut(known, file, "file");
      }
    }
    return std::visit([name](const auto& any) { return any.file(name).status(); }, model->model);
  });
}
