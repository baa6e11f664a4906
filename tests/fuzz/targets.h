#ifndef WEIGHTD_TESTS_FUZZ_TARGETS_H_
#define WEIGHTD_TESTS_FUZZ_TARGETS_H_

#include "absl/strings/string_view.h"

// One function for each parser of foreign bytes. Each takes any input and aborts when the parser
// breaks a promise; what the sanitizers find comes on top. Built as fuzzers (see run.sh), and as a
// test that replays the corpora.

namespace weightd::fuzz {

// Any JSON, held against simdjson.
void Json(absl::string_view input);
// A whole safetensors file.
void Safetensors(absl::string_view input);
// A whole tensorizer file: its metadata, every record, every box.
void Tensorizer(absl::string_view input);
// What follows the magic of veTurboIO's header; and a file that is encrypted with AES-CTR.
void Veturboio(absl::string_view input);
// model.safetensors.index.json.
void ShardIndex(absl::string_view input);
// The config file.
void Config(absl::string_view input);
// A pattern, a newline, a URI.
void UriAndAccess(absl::string_view input);
// What an earlier daemon wrote of a model: the body of its card, and its tensor index.
void ModelCard(absl::string_view input);
// What an S3 server answers: a listing, or an error.
void S3Answers(absl::string_view input);
// What it answers to multipart uploads.
void S3UploadAnswers(absl::string_view input);
// What a hub of models answers: a repository, an ETag.
void HubAnswers(absl::string_view input);
// Credentials as services, programs and files give them.
void CredentialText(absl::string_view input);
// What a client sends on handles.sock: packets, each after its length in one byte; a length of 0
// stands for a claim of the client's own lease. Served by the real channel.
void HandleFrames(absl::string_view input);
// What a client sends to weightd-keeper: packets, each after its length in one byte, whose top bit
// stands for a descriptor. Served by the real server.
void KeeperRequests(absl::string_view input);

// Aborts with `promise` if it was not kept.
void Require(bool kept, const char* promise);

}  // namespace weightd::fuzz

#endif  // WEIGHTD_TESTS_FUZZ_TARGETS_H_
