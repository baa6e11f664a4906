#include "daemon/service/denied_models.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "common/uri.h"
#include "daemon/source/source.h"
#include "daemon/source/trail.h"

namespace weightd::service {
namespace {

class DeniedModelsTest : public ::testing::Test {
 protected:
  DeniedModelsTest() {
    EXPECT_TRUE(names_.Set({{"hid", "file:///named/b/"}, {"open", "file:///named/c"}}).ok());
    policy_.denied = std::make_shared<DeniedModels>(
        *Access::EverythingBut({"hid", "http://host/private/**"}), &names_);
  }

  absl::Status Check(const source::ObjectVersion& object) const {
    const source::ObjectVersion* const objects[] = {&object};
    return source::CheckOrigins(objects, policy_);
  }

  ModelNames names_;
  source::ReadPolicy policy_;
};

TEST_F(DeniedModelsTest, PlacesAreDeniedByPatternAndByAlias) {
  for (const char* denied : {"file:///named/b", "file:///named/b/x", "http://host/private/x"}) {
    EXPECT_EQ(source::CheckPlaces({denied}, policy_), source::NotAllowed()) << denied;
    EXPECT_TRUE(source::CheckPlaces({denied}, {}).ok());
  }
  for (const char* open : {"file:///named/c", "file:///named/bc", "http://host/x"}) {
    EXPECT_TRUE(source::CheckPlaces({open}, policy_).ok()) << open;
  }
}

TEST_F(DeniedModelsTest, RedirectsCountForWhoComesLater) {
  source::ObjectVersion object;
  object.uri = *Uri::Parse("http://host/x");
  EXPECT_TRUE(Check(object).ok());
  object.trail = std::make_shared<source::Trail>();
  object.trail->Add("http://host/y");
  EXPECT_TRUE(Check(object).ok());
  object.trail->Add("http://host/private/y");
  EXPECT_EQ(Check(object), source::NotAllowed());
  object.trail = std::make_shared<source::Trail>();
  object.trail->Add(std::nullopt);
  EXPECT_EQ(Check(object), source::NotAllowed());
}

}  // namespace
}  // namespace weightd::service
