// Which secret opens which model, and what is taken for one.

#include "daemon/model_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/pipeline/model_key.h"
#include "weightd/v1/config.pb.h"

namespace weightd {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kKey = "0123456789abcdef\n123456789abcde\n";  // 32 bytes, of any kind

class ModelKeysTest : public testing::Test {
 protected:
  // A file with this text.
  std::string File(const std::string& text) {
    const std::string path = absl::StrCat(testing::TempDir(), "/secret", files_++);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  v1::KeyConfig& Add(const std::string& models) {
    v1::KeyConfig& key = *config_.add_keys();
    key.add_models(models);
    return key;
  }

  absl::StatusOr<std::optional<pipeline::ModelKey>> Key(absl::string_view model = "s3://b/m") {
    return ModelKeys::Make(config_.keys()).value().For(*Uri::Parse(model));
  }

  v1::Config config_;
  int files_ = 0;
};

TEST_F(ModelKeysTest, AKeyIsGivenAsBytesOrDigits) {
  v1::KeyConfig& config = Add("**");
  for (const std::string& text :
       {kKey, absl::StrCat(absl::BytesToHexString(kKey), "\n"), absl::Base64Escape(kKey)}) {
    config.set_key_file(File(text));
    const auto key = Key();
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_EQ((*key)->secret.bytes(), kKey);
    EXPECT_FALSE((*key)->password);
  }
}

TEST_F(ModelKeysTest, AKeyOfAesCtrHasAnIv) {
  const std::string iv = "0123456789abcdef";
  v1::KeyConfig& config = Add("**");
  config.set_cipher("aes-ctr");
  for (const std::string& secret : {kKey, kKey.substr(0, 16)}) {
    for (const std::string& text :
         {secret, absl::BytesToHexString(secret), absl::StrCat(absl::Base64Escape(secret), "\n")}) {
      config.set_key_file(File(text));
      for (const std::string& digits :
           {std::string(), absl::BytesToHexString(iv), absl::Base64Escape(iv)}) {
        config.set_iv(digits);
        const auto key = Key();
        ASSERT_TRUE(key.ok()) << key.status();
        EXPECT_EQ((*key)->secret.bytes(), secret);
        EXPECT_EQ((*key)->ctr_iv, digits.empty() ? "" : iv);
      }
    }
  }
  config.set_key_file(File(std::string(24, 'k')));
  EXPECT_THAT(std::string(Key().status().message()), HasSubstr("not a key: 16 or 32 bytes"));
}

TEST_F(ModelKeysTest, KeysOfOtherCiphersHaveNone) {
  Add("**").set_key_file(File(kKey));
  EXPECT_EQ((*Key())->ctr_iv, std::nullopt);
}

// Sets variables for as long as it lives.
class Variables {
 public:
  explicit Variables(const std::vector<std::pair<std::string, std::string>>& variables) {
    for (const auto& [name, value] : variables) {
      setenv(name.c_str(), value.c_str(), 1);
      names_.push_back(name);
    }
  }
  ~Variables() {
    for (const std::string& name : names_) {
      unsetenv(name.c_str());
    }
  }

 private:
  std::vector<std::string> names_;
};

TEST_F(ModelKeysTest, VeturboiosVariablesCountWhereNothingIsNamed) {
  const std::string iv = "0123456789abcdef";
  v1::KeyConfig& config = Add("**");
  config.set_cipher("aes-ctr");
  for (const std::string prefix : {"VETURBOIO_", "VETUROIO_"}) {
    const Variables set(
        {{prefix + "KEY", absl::Base64Escape(kKey)}, {prefix + "IV", absl::Base64Escape(iv)}});
    const auto key = Key();
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_EQ((*key)->secret.bytes(), kKey);
    EXPECT_EQ((*key)->ctr_iv, iv);
  }
  const Variables set({{"VETURBOIO_KEY", absl::Base64Escape(kKey)}, {"OTHER_IV", "not an IV"}});
  EXPECT_EQ((*Key())->ctr_iv, "");
  config.set_iv_env("OTHER_IV");
  absl::Status status = Key().status();
  EXPECT_EQ(ReasonOf(status), Reason::kKeyMissing);
  EXPECT_THAT(std::string(status.message()), HasSubstr("OTHER_IV: not 16 bytes"));
  config.set_iv_env("ABSENT_IV");
  EXPECT_THAT(std::string(Key().status().message()), HasSubstr("ABSENT_IV: not set"));
}

TEST_F(ModelKeysTest, VeturboiosVariablesDoNotCountBesideAKey) {
  const Variables set({{"VETURBOIO_KEY", "x"}, {"VETURBOIO_IV", "x"}});
  v1::KeyConfig& config = Add("**");
  config.set_cipher("aes-ctr");
  config.set_key_file(File(kKey));
  EXPECT_EQ((*Key())->ctr_iv, "");
  config.clear_key_file();
  EXPECT_EQ(ReasonOf(Key().status()), Reason::kKeyMissing);
}

TEST_F(ModelKeysTest, VeturboiosVariablesAreNamedWhereTheyAreMissing) {
  Add("**").set_cipher("aes-ctr");
  EXPECT_THAT(std::string(Key().status().message()), HasSubstr("VETURBOIO_KEY: not set"));
}

TEST_F(ModelKeysTest, APasswordLosesTheLineBreakAtItsEndAlone) {
  Add("**").set_password_file(File(" two words \r\n"));
  const auto key = Key();
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ((*key)->secret.bytes(), " two words ");
  EXPECT_TRUE((*key)->password);
}

TEST_F(ModelKeysTest, TheEnvironmentMayHoldThem) {
  setenv("MODEL_KEYS_TEST", "secret", 1);
  v1::KeyConfig& config = Add("**");
  config.set_password_env("MODEL_KEYS_TEST");
  EXPECT_EQ((*Key())->secret.bytes(), "secret");
  config.set_password_env("MODEL_KEYS_TEST_ABSENT");
  EXPECT_THAT(std::string(Key().status().message()), HasSubstr("MODEL_KEYS_TEST_ABSENT: not set"));
}

TEST_F(ModelKeysTest, TheFirstEntryThatMatchesCounts) {
  Add("s3://b/private/*").set_password_file(File("first"));
  Add("s3://b/**").set_password_file(File("second"));
  EXPECT_EQ((*Key("s3://b/private/m"))->secret.bytes(), "first");
  EXPECT_EQ((*Key("s3://b/m"))->secret.bytes(), "second");
  EXPECT_FALSE(Key("s3://c/m")->has_value());
}

TEST_F(ModelKeysTest, ASecretIsReadAnewEachTime) {
  const std::string path = File("old");
  Add("**").set_password_file(path);
  EXPECT_EQ((*Key())->secret.bytes(), "old");
  std::ofstream(path, std::ios::binary | std::ios::trunc) << "new";
  EXPECT_EQ((*Key())->secret.bytes(), "new");
}

TEST_F(ModelKeysTest, WhatIsNoSecretIsSaidWithoutTellingIt) {
  v1::KeyConfig& config = Add("**");
  config.set_key_file(File("tooshort"));
  absl::Status status = Key().status();
  EXPECT_EQ(ReasonOf(status), Reason::kKeyMissing);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a key"));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("tooshort")));
  config.set_key_file("/nowhere/key");
  status = Key().status();
  EXPECT_EQ(ReasonOf(status), Reason::kKeyMissing);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/key"));
  config.clear_key_file();
  config.set_password_file(File("\n"));
  EXPECT_THAT(std::string(Key().status().message()), HasSubstr("an empty password"));
}

}  // namespace
}  // namespace weightd
