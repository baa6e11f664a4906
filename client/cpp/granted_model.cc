#include "client/cpp/granted_model.h"

namespace weightd::client {
namespace {

std::vector<FileCheck> ChecksOf(const v1::Verification& verification) {
  std::vector<FileCheck> checks;
  for (const v1::FileCheck& check : verification.files()) {
    checks.push_back({.file = check.file(),
                      .kind = check.kind(),
                      .value = check.value(),
                      .pinned = check.by() == v1::FileCheck::PIN});
  }
  return checks;
}

}  // namespace

GrantedModel::GrantedModel(const v1::Grant& grant)
    : lease(grant.lease_id()),
      name(grant.model().model()),
      revision(grant.model().revision()),
      verified(ChecksOf(grant.verification())) {}

}  // namespace weightd::client
