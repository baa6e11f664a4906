#include "tests/servers/metadata_server.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weightd {
namespace {

constexpr char kToken[] = "AQAEAtoken==";
constexpr char kRoles[] = "/latest/meta-data/iam/security-credentials/";
constexpr int kLongestLife = 21600;

}  // namespace

MetadataServer::MetadataServer(Behaviour behaviour)
    : behaviour_(std::move(behaviour)),
      server_([this](const ServiceRequest& request) { return Answer(request); }) {}

void MetadataServer::Become(Behaviour behaviour) {
  absl::MutexLock lock(&mutex_);
  behaviour_ = std::move(behaviour);
}

ServiceReply MetadataServer::Answer(const ServiceRequest& request) const {
  absl::MutexLock lock(&mutex_);
  if (behaviour_.switched_off) {
    return {.status = 403};
  }
  if (request.path == "/latest/api/token" && !behaviour_.version_1_only) {
    int life = 0;
    if (request.method != "PUT" || !request.Header("x-forwarded-for").empty() ||
        !absl::SimpleAtoi(request.Header("x-aws-ec2-metadata-token-ttl-seconds"), &life) ||
        life < 1 || life > kLongestLife) {
      return {.status = 400};
    }
    return {.body = kToken, .silent = behaviour_.lose_token};
  }
  if (request.method != "GET") {
    return {.status = 405};
  }
  if (!behaviour_.version_1_only && request.Header("x-aws-ec2-metadata-token") != kToken) {
    return {.status = 401};
  }
  if (request.path == kRoles && !behaviour_.role.empty()) {
    return {.body = behaviour_.role};
  }
  if (request.path == absl::StrCat(kRoles, behaviour_.role) && !behaviour_.role.empty()) {
    return behaviour_.credentials;
  }
  return {.status = 404};
}

}  // namespace weightd
