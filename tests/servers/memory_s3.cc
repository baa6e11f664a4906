#include "tests/servers/memory_s3.h"

#include <openssl/evp.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weightd {
namespace {

std::string Digest(const EVP_MD* kind, absl::string_view text) {
  unsigned char value[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), value, &size, kind, nullptr);
  return {reinterpret_cast<const char*>(value), size};
}

std::string Md5Hex(absl::string_view text) {
  return absl::BytesToHexString(Digest(EVP_md5(), text));
}
std::string Sha256Text(absl::string_view text) {
  return absl::Base64Escape(Digest(EVP_sha256(), text));
}

std::string Decode(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      absl::StrAppend(&out, absl::HexStringToBytes(text.substr(i + 1, 2)));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// Whether the body is what its sender said of it.
bool IsWhole(const ServiceRequest& request) {
  const std::string said = request.Header("x-amz-content-sha256");
  const std::string checksum = request.Header("x-amz-checksum-sha256");
  return said == absl::BytesToHexString(Digest(EVP_sha256(), request.body)) &&
         (checksum.empty() || checksum == Sha256Text(request.body));
}

std::string Quoted(absl::string_view hex) { return absl::StrCat("\"", hex, "\""); }

}  // namespace

ServiceReply S3ErrorReply(int status, const std::string& code) {
  return {.status = status,
          .body = absl::StrCat("<?xml version=\"1.0\"?><Error><Code>", code,
                               "</Code><Message>inner words</Message></Error>")};
}

void MemoryS3::SetFault(Fault fault) {
  absl::MutexLock lock(&mutex_);
  fault_ = std::move(fault);
}

void MemoryS3::SetLoss(Fault loss) {
  absl::MutexLock lock(&mutex_);
  loss_ = std::move(loss);
}

void MemoryS3::HideDigests() {
  absl::MutexLock lock(&mutex_);
  hides_digests_ = true;
}

std::string MemoryS3::Etag(absl::string_view bytes) const {
  return Quoted(absl::StrCat(Md5Hex(bytes), hides_digests_ ? "+key" : ""));
}

std::map<std::string, std::string> MemoryS3::objects() const {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, std::string> bytes;
  for (const auto& [key, object] : objects_) {
    bytes[key] = object.bytes;
  }
  return bytes;
}

void MemoryS3::PutObject(const std::string& key, const std::string& bytes) {
  absl::MutexLock lock(&mutex_);
  objects_[key] = {bytes, Etag(bytes), Sha256Text(bytes)};
}

std::string MemoryS3::BeginUpload(const std::string& key, const std::string& algorithm) {
  absl::MutexLock lock(&mutex_);
  return Begin(key, algorithm);
}

void MemoryS3::PutPart(const std::string& id, int number, const std::string& bytes) {
  absl::MutexLock lock(&mutex_);
  uploads_[id].parts[number] = bytes;
}

std::vector<std::string> MemoryS3::uploads() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, upload] : uploads_) {
    ids.push_back(id);
  }
  return ids;
}

std::string MemoryS3::Begin(const std::string& key, const std::string& algorithm) {
  std::string id = absl::StrCat("2~upload/", ++begun_);
  uploads_[id] = {key, algorithm, {}};
  return id;
}

ServiceReply MemoryS3::Answer(const ServiceRequest& request) {
  Fault fault;
  Fault loss;
  {
    absl::MutexLock lock(&mutex_);
    fault = fault_;
    loss = loss_;
  }
  if (fault != nullptr) {
    if (std::optional<ServiceReply> reply = fault(request); reply.has_value()) {
      return *std::move(reply);
    }
  }
  ServiceReply reply = Do(request);
  return loss != nullptr ? loss(request).value_or(std::move(reply)) : reply;
}

ServiceReply MemoryS3::Do(const ServiceRequest& request) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(request.path, absl::MaxSplits('?', 1));
  const std::string key(absl::StripPrefix(Decode(parts.first), "/bucket/"));
  Query query;
  for (const absl::string_view parameter : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    query[pair.first] = Decode(pair.second);
  }
  if (!IsWhole(request)) {
    return S3ErrorReply(400, "XAmzContentSHA256Mismatch");
  }
  absl::MutexLock lock(&mutex_);
  if (query.contains("uploadId")) {
    return AnswerUpload(request, query["uploadId"], query);
  }
  if (query.contains("uploads")) {
    return request.method == "GET"
               ? ListUploads(query["prefix"])
               : ServiceReply{
                     .body = absl::StrCat("<InitiateMultipartUploadResult><UploadId>",
                                          Begin(key, request.Header("x-amz-checksum-algorithm")),
                                          "</UploadId></InitiateMultipartUploadResult>")};
  }
  if (request.method == "PUT") {
    objects_[key] = {request.body, Etag(request.body), Sha256Text(request.body)};
    return Taken(request.body);
  }
  if (request.method == "DELETE") {
    objects_.erase(key);
    return {.status = 204};
  }
  const auto object = objects_.find(key);
  if (object == objects_.end()) {
    return S3ErrorReply(404, "NoSuchKey");
  }
  ServiceReply reply = {.body = object->second.bytes, .headers = {"ETag: " + object->second.etag}};
  if (keeps_checksums_) {
    reply.headers.push_back("x-amz-checksum-sha256: " + object->second.sha256);
  }
  return reply;
}

ServiceReply MemoryS3::Taken(const std::string& body) const {
  ServiceReply reply = {.headers = {"ETag: " + Etag(body)}};
  if (keeps_checksums_) {
    reply.headers.push_back("x-amz-checksum-sha256: " + Sha256Text(body));
  }
  return reply;
}

ServiceReply MemoryS3::AnswerUpload(const ServiceRequest& request, const std::string& id,
                                    const Query& query) {
  const auto upload = uploads_.find(id);
  if (upload == uploads_.end()) {
    return S3ErrorReply(404, "NoSuchUpload");
  }
  if (request.method == "PUT") {
    // As AWS: "Checksum Type mismatch occurred".
    if (keeps_checksums_ &&
        upload->second.algorithm.empty() != request.Header("x-amz-checksum-sha256").empty()) {
      return S3ErrorReply(400, "InvalidRequest");
    }
    upload->second.parts[std::stoi(query.at("partNumber"))] = request.body;
    return Taken(request.body);
  }
  if (request.method == "DELETE") {
    uploads_.erase(upload);
    return {.status = 204};
  }
  return request.method == "POST" ? Complete(id, request.body) : ListParts(upload->second);
}

ServiceReply MemoryS3::ListUploads(const std::string& prefix) const {
  ServiceReply reply = {.body = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"};
  for (const auto& [id, upload] : uploads_) {
    if (absl::StartsWith(upload.key, prefix)) {
      absl::StrAppend(&reply.body, "<Upload><Key>", upload.key, "</Key><UploadId>", id,
                      "</UploadId>");
      if (keeps_checksums_ && !upload.algorithm.empty()) {
        absl::StrAppend(&reply.body, "<ChecksumAlgorithm>", upload.algorithm,
                        "</ChecksumAlgorithm>");
      }
      absl::StrAppend(&reply.body, "</Upload>");
    }
  }
  absl::StrAppend(&reply.body, "</ListMultipartUploadsResult>");
  return reply;
}

ServiceReply MemoryS3::ListParts(const Upload& upload) const {
  ServiceReply reply = {.body = "<ListPartsResult><IsTruncated>false</IsTruncated>"};
  for (const auto& [number, bytes] : upload.parts) {
    absl::StrAppend(&reply.body, "<Part><PartNumber>", number, "</PartNumber><ETag>",
                    absl::StrReplaceAll(Etag(bytes), {{"\"", "&quot;"}}), "</ETag><Size>",
                    bytes.size(), "</Size>");
    if (keeps_checksums_ && upload.algorithm == "SHA256") {
      absl::StrAppend(&reply.body, "<ChecksumSHA256>", Sha256Text(bytes), "</ChecksumSHA256>");
    }
    absl::StrAppend(&reply.body, "</Part>");
  }
  absl::StrAppend(&reply.body, "</ListPartsResult>");
  return reply;
}

ServiceReply MemoryS3::Complete(const std::string& id, const std::string& body) {
  const Upload& upload = uploads_[id];
  Object object;
  std::string md5s;
  std::string sha256s;
  for (const auto& [number, bytes] : upload.parts) {
    const std::string etag = Etag(bytes);
    const std::string named =
        absl::StrCat("<ETag>", etag.substr(1, etag.size() - 2), "</ETag><PartNumber>", number);
    const std::string checksum = absl::StrCat(">", Sha256Text(bytes), "</ChecksumSHA256>");
    if (!absl::StrContains(body, named) ||
        (keeps_checksums_ && absl::StrContains(body, checksum) == upload.algorithm.empty())) {
      return S3ErrorReply(400, "InvalidPart");
    }
    absl::StrAppend(&object.bytes, bytes);
    absl::StrAppend(&md5s, Digest(EVP_md5(), bytes));
    absl::StrAppend(&sha256s, Digest(EVP_sha256(), bytes));
  }
  object.etag =
      Quoted(absl::StrCat(Md5Hex(md5s), hides_digests_ ? "+key" : "", "-", upload.parts.size()));
  object.sha256 = absl::StrCat(Sha256Text(sha256s), "-", upload.parts.size());
  ServiceReply reply = {
      .body =
          absl::StrCat("<CompleteMultipartUploadResult><ETag>", object.etag, "</ETag>",
                       keeps_checksums_ && !upload.algorithm.empty()
                           ? absl::StrCat("<ChecksumSHA256>", object.sha256, "</ChecksumSHA256>")
                           : "",
                       "</CompleteMultipartUploadResult>")};
  objects_[upload.key] = std::move(object);
  uploads_.erase(id);
  return reply;
}

}  // namespace weightd
