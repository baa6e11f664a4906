#include "tests/fakes/fake_model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "tests/fakes/require.h"

namespace weightd::fakes {

Fd MakeMemfd(absl::string_view bytes, bool sealed) {
  Fd file(memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  Require(file.valid(), "memfd_create");
  Require(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "write");
  if (sealed) {
    Require(fcntl(file.get(), F_ADD_SEALS,
                  F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0,
            "F_ADD_SEALS");
  }
  auto reopened = file.ReopenReadOnly();
  Require(reopened.ok(), "re-open");
  return *std::move(reopened);
}

FakeModel SmallModel() {
  constexpr float kValues[] = {1, 2, 3, 4, 5};
  FakeModel model;
  model.bytes.resize(4096);
  std::memcpy(model.bytes.data(), kValues, sizeof(kValues));
  model.index.set_version(1);
  model.index.set_segment_bytes(model.bytes.size());
  (*model.index.mutable_metadata())["format"] = "pt";
  v1::TensorPiece* a = model.index.mutable_layout()->add_pieces();
  a->set_name("a");
  a->set_dtype(v1::F32);
  a->add_shape(2);
  a->add_shape(2);
  a->set_nbytes(16);
  v1::TensorPiece* b = model.index.mutable_layout()->add_pieces();
  b->set_name("b");
  b->set_dtype(v1::F32);
  b->set_offset(16);
  b->set_nbytes(4);
  return model;
}

void AddSmallFile(FakeModel& model, absl::string_view name, uint64_t offset, uint64_t bytes) {
  v1::SmallFile* file = model.index.add_small_files();
  file->set_name(std::string(name));
  file->set_offset(offset);
  file->set_nbytes(bytes);
}

}  // namespace weightd::fakes
