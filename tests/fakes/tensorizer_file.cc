#include "tests/fakes/tensorizer_file.h"

#include <sodium.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "daemon/source/checksum.h"

namespace weightd::fakes {
namespace {

// A stretch of the file and the places of its fields, counted from its own first byte.
struct Part {
  std::string bytes;
  std::map<std::string, ByteRange> fields;

  void AddBytes(const std::string& field, absl::string_view value) {
    fields[field] = {bytes.size(), bytes.size() + value.size()};
    bytes.append(value.data(), value.size());
  }
  void AddNumber(const std::string& field, size_t width, uint64_t value) {
    std::string number;
    for (size_t i = 0; i < width; ++i) {
      number += static_cast<char>(value >> (8 * i));
    }
    AddBytes(field, number);
  }
  void AddPart(const std::string& prefix, const Part& part) {
    for (const auto& [field, range] : part.fields) {
      fields[prefix + field] = {bytes.size() + range.begin, bytes.size() + range.end};
    }
    bytes += part.bytes;
  }
};

bool IsWide(const TensorizerTensor& tensor) {
  return std::any_of(tensor.shape.begin(), tensor.shape.end(),
                     [](uint64_t extent) { return extent > UINT32_MAX; });
}

bool IsUnstored(const TensorizerTensor& tensor) {
  return tensor.bytes.empty() &&
         std::find(tensor.shape.begin(), tensor.shape.end(), uint64_t{0}) == tensor.shape.end();
}

bool IsOpaque(const TensorizerTensor& tensor) {
  return tensor.dtype.find('\0') != std::string::npos;
}

uint32_t LeastVersion(const std::vector<TensorizerTensor>& tensors, bool encrypted) {
  const auto any = [&](auto is) { return std::any_of(tensors.begin(), tensors.end(), is); };
  return any(IsWide) ? 5 : any(IsUnstored) ? 4 : encrypted ? 3 : any(IsOpaque) ? 2 : 1;
}

void AddName(Part& part, const TensorizerTensor& tensor) {
  part.AddNumber("name_length", 2, tensor.name.size());
  part.AddBytes("name", tensor.name);
}

void AddTypeAndShape(Part& part, const TensorizerTensor& tensor) {
  part.AddNumber("dtype_length", 1, tensor.dtype.size());
  part.AddBytes("dtype", tensor.dtype);
  part.AddNumber("rank", 1, tensor.shape.size());
  Part shape;
  for (const uint64_t extent : tensor.shape) {
    shape.AddNumber("", IsWide(tensor) ? 8 : 4, extent);
  }
  part.AddBytes("shape", shape.bytes);
}

// A tensor's bytes as they are stored, and what is said of their encryption.
struct Sealed {
  std::string bytes;
  Part block;
};

std::string SealBox(const TensorizerEncryption& encryption, const std::string& nonce,
                    absl::string_view plain, std::string& stored) {
  const auto bytes = [](const char* text) { return reinterpret_cast<const unsigned char*>(text); };
  std::string box(plain.size(), '\0');
  std::string mac(crypto_secretbox_MACBYTES, '\0');
  crypto_secretbox_detached(reinterpret_cast<unsigned char*>(box.data()),
                            reinterpret_cast<unsigned char*>(mac.data()), bytes(plain.data()),
                            plain.size(), bytes(nonce.data()), bytes(encryption.key.data()));
  stored += box;
  return mac;
}

Part PasswordEntry(const TensorizerEncryption& encryption) {
  Part entry;
  entry.AddNumber("password.kind", 2, 1);
  entry.AddNumber("password.method", 2, 1);
  entry.AddNumber("password.operations", 8, crypto_pwhash_OPSLIMIT_MIN);
  entry.AddNumber("password.memory", 8, crypto_pwhash_MEMLIMIT_MIN);
  entry.AddNumber("password.algorithm", 4, 2);
  entry.AddNumber("password.salt_length", 2, encryption.salt.size());
  entry.AddBytes("password.salt", encryption.salt);
  return entry;
}

Part BoxesEntry(const TensorizerEncryption& encryption, absl::string_view plain,
                std::string& stored) {
  std::string macs;
  std::string nonce = encryption.nonce;
  const uint64_t step = encryption.as_one_box ? plain.size() : encryption.box_bytes;
  for (size_t at = 0; at < plain.size(); at += step) {
    macs += SealBox(encryption, nonce, plain.substr(at, step), stored);
    sodium_increment(reinterpret_cast<unsigned char*>(nonce.data()), nonce.size());
  }
  Part entry;
  entry.AddNumber("boxes.kind", 2, encryption.as_one_box ? 3 : 2);
  if (!encryption.as_one_box) {
    entry.AddNumber("boxes.size", 8, encryption.box_bytes);
  }
  entry.AddBytes("boxes.nonce", encryption.nonce);
  if (!encryption.as_one_box) {
    entry.AddNumber("boxes.count", 8, macs.size() / crypto_secretbox_MACBYTES);
  }
  entry.AddBytes("boxes.macs", macs);
  return entry;
}

Sealed Seal(const TensorizerTensor& tensor, const TensorizerEncryption& encryption) {
  Sealed sealed;
  std::vector<Part> entries;
  if (!tensor.bytes.empty()) {
    if (!encryption.salt.empty()) {
      entries.push_back(PasswordEntry(encryption));
    }
    entries.push_back(BoxesEntry(encryption, tensor.bytes, sealed.bytes));
  }
  Part block;
  block.AddNumber("entries", 2, entries.size());
  for (const Part& entry : entries) {
    block.AddNumber(
        entries.size() > 1 && &entry == &entries[0] ? "password.length" : "boxes.length", 8,
        entry.bytes.size());
    block.AddPart("", entry);
  }
  sealed.block.AddNumber("encryption_length", 8, block.bytes.size());
  sealed.block.AddPart("", block);
  return sealed;
}

std::string Crc32(absl::string_view bytes) {
  std::string value = source::HashOf(source::ChecksumKind::kCrc32, bytes);
  std::reverse(value.begin(), value.end());
  return value;
}

// Values for the hashes, each with its kind.
using Hashes = std::vector<std::pair<uint8_t, std::string>>;

Part RecordHeader(const TensorizerTensor& tensor, uint64_t size, const Hashes& hashes,
                  const Part& encryption) {
  Part part;
  part.AddNumber("size", 8, size);
  part.AddNumber("module", 2, tensor.module);
  part.AddNumber("kind", 1, tensor.kind);
  AddName(part, tensor);
  AddTypeAndShape(part, tensor);
  Part section;
  section.AddNumber("hash_count", 1, hashes.size());
  for (const auto& [kind, value] : hashes) {
    const std::string name = kind == 0 ? "crc32" : "sha256";
    section.AddNumber(name + ".kind", 1, kind);
    section.AddNumber(name + ".length", 1, value.size());
    section.AddBytes(name, value);
  }
  part.AddNumber("hashes_length", 2, section.bytes.size());
  part.AddPart("", section);
  part.AddPart("", encryption);
  part.AddNumber("data_length", 8, tensor.bytes.size());
  return part;
}

Part Record(const TensorizerTensor& tensor, const TensorizerOptions& options) {
  Sealed sealed;
  sealed.bytes = tensor.bytes;
  if (options.encryption.has_value()) {
    sealed = Seal(tensor, *options.encryption);
  }
  Hashes hashes;
  if (options.hashes) {
    if (!options.encryption.has_value() || tensor.bytes.empty()) {
      hashes.emplace_back(0, std::string(4, '\0'));
    }
    hashes.emplace_back(1, std::string(32, '\0'));
  }
  const uint64_t size = RecordHeader(tensor, 0, hashes, sealed.block).bytes.size();
  const std::string hashed = RecordHeader(tensor, size, hashes, {}).bytes + tensor.bytes;
  for (auto& [kind, value] : hashes) {
    value = kind == 0 ? Crc32(hashed) : source::HashOf(source::ChecksumKind::kSha256, hashed);
  }
  Part record;
  record.AddPart("record.", RecordHeader(tensor, size, hashes, sealed.block));
  record.AddBytes("data", sealed.bytes);
  return record;
}

Part Entry(const TensorizerTensor& tensor, bool tagged, uint64_t header, uint64_t data) {
  Part entry;
  if (tagged) {
    entry.AddNumber("tag", 4, IsWide(tensor) ? 5 : 1);
  }
  AddName(entry, tensor);
  entry.AddNumber("kind", 1, tensor.kind);
  AddTypeAndShape(entry, tensor);
  entry.AddNumber("header_offset", 8, header);
  entry.AddNumber("data_offset", 8, data);
  entry.AddNumber("data_length", 8, tensor.bytes.size());
  return entry;
}

}  // namespace

uint64_t TensorizerFile::Get(const std::string& field) const {
  const ByteRange range = fields.at(field);
  uint64_t value = 0;
  for (uint64_t i = 0; i < std::min<uint64_t>(range.size(), 8); ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes[range.begin + i])} << (8 * i);
  }
  return value;
}

void TensorizerFile::Put(const std::string& field, uint64_t value) {
  const ByteRange range = fields.at(field);
  for (uint64_t i = 0; i < std::min<uint64_t>(range.size(), 8); ++i) {
    bytes[range.begin + i] = static_cast<char>(value >> (8 * i));
  }
}

TensorizerFile MakeTensorizerFile(const std::vector<TensorizerTensor>& tensors,
                                  const TensorizerOptions& options) {
  const bool encrypted = options.encryption.has_value();
  const uint32_t version =
      options.version != 0 ? options.version : LeastVersion(tensors, encrypted);
  const bool tagged = version >= 5;
  Part metadata;
  Part records;
  const uint64_t begin = 73 + options.metadata_bytes;
  uint64_t stored = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string prefix = absl::StrCat(i, ".");
    const Part record = Record(tensors[i], options);
    const uint64_t header = begin + records.bytes.size();
    const uint64_t data = header + record.bytes.size() - tensors[i].bytes.size();
    metadata.AddPart(prefix, Entry(tensors[i], tagged, header, data));
    records.AddPart(prefix, record);
    stored += tensors[i].bytes.size();
  }
  metadata.bytes.resize(options.metadata_bytes, '\0');

  Part file;
  file.AddBytes("magic", "|TZR|");
  file.AddNumber("version", 4, version);
  file.AddNumber("flags", 8, (version >= 4 && encrypted ? 1 : 0) | (tagged ? 2 : 0));
  file.AddBytes("more_flags", std::string(24, '\0'));
  file.AddNumber("tensor_size", 8, stored);
  file.AddNumber("unused", 8, 0);
  file.AddNumber("count", 8, tensors.size());
  file.AddNumber("metadata_length", 8, options.metadata_bytes);
  file.AddPart("", metadata);
  file.AddPart("", records);
  file.AddNumber("terminator", 8, 0);
  return {std::move(file.bytes), std::move(file.fields)};
}

}  // namespace weightd::fakes
