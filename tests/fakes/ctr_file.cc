#include "tests/fakes/ctr_file.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secret_key.h"

namespace weightd::fakes {

std::string CtrHeader(absl::string_view json) {
  std::string header = absl::StrCat("Byte3ncryptM0del", json);
  header.resize(262144);
  return header;
}

std::string CtrFile(std::string plain, const CtrFileOptions& options) {
  const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(plain.data()), plain.size());
  format::ApplyAesCtr(format::SecretKey(options.key), options.iv, 0, bytes).IgnoreError();
  if (!options.header) {
    return plain;
  }
  return absl::StrCat(
      CtrHeader(absl::StrCat("{\"mode\": \"CTR-", 8 * options.key.size(), "\", \"iv\": \"",
                             absl::Base64Escape(options.iv),
                             "\", \"meta_data_key\": \"d3JhcHBlZA==\", \"file_timestamp\": 1}")),
      plain);
}

}  // namespace weightd::fakes
