#ifndef WEIGHTD_TESTS_FAKES_TENSORIZER_FILE_H_
#define WEIGHTD_TESTS_FAKES_TENSORIZER_FILE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/byte_range.h"

namespace weightd::fakes {

struct TensorizerTensor {
  std::string name;
  // As the format spells it: "<f4", or an opaque type with its NUL.
  std::string dtype = "|u1";
  std::vector<uint64_t> shape;
  // As many as dtype and shape say, before encryption; none if zeros are not to be stored. Not
  // checked here.
  std::string bytes;
  // A parameter.
  uint8_t kind = 0;
  uint16_t module = 0;
};

struct TensorizerEncryption {
  std::string key = std::string(32, 'k');
  // Of every tensor's first box: only tests may use one twice.
  std::string nonce = std::string(24, 'n');
  uint64_t box_bytes = 2 << 20;
  // The form for a single box that readers know and no writer writes.
  bool as_one_box = false;
  // If set, records say that the key comes of a password, with this salt of 16 bytes, and the least
  // that the hash can cost.
  std::string salt;
};

struct TensorizerOptions {
  // 0: the least that can say it, as writers do.
  uint32_t version = 0;
  // Enough for the entries; not checked here.
  uint64_t metadata_bytes = 256;
  std::optional<TensorizerEncryption> encryption = {};
  // Of no hashes at all if false.
  bool hashes = true;
};

struct TensorizerFile {
  std::string bytes;
  // Where everything lies, by name: "version", "flags", "count", "metadata_length", then for tensor
  // 0 in its metadata entry "0.tag", "0.name_length", "0.name", "0.kind", "0.dtype_length",
  // "0.dtype", "0.rank", "0.shape", "0.header_offset", "0.data_offset", "0.data_length", the same
  // in its record from "0.record.size" on, and "0.data".
  std::map<std::string, ByteRange> fields;

  uint64_t Get(const std::string& field) const;
  // Writes a lie, little-endian, over the first 8 bytes of the field or all that it has.
  void Put(const std::string& field, uint64_t value);
};

// A file with these tensors in this order, as the format's own writer would write it.
TensorizerFile MakeTensorizerFile(const std::vector<TensorizerTensor>& tensors,
                                  const TensorizerOptions& options = {});

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_TENSORIZER_FILE_H_
