#ifndef WEIGHTD_CLIENT_CPP_GRANTED_MODEL_H_
#define WEIGHTD_CLIENT_CPP_GRANTED_MODEL_H_

#include <string>
#include <vector>

#include "client/cpp/file_check.h"
#include "common/ids.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::client {

// What a grant says of a model, wherever it is.
struct GrantedModel {
  explicit GrantedModel(const v1::Grant& grant);

  LeaseId lease;
  std::string name;
  std::string revision;
  std::vector<FileCheck> verified;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_GRANTED_MODEL_H_
