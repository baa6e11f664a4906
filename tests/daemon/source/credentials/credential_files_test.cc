// Credentials that somebody wrote down: what is read, from where, and what the errors say.

#include "daemon/source/credentials/credential_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/source/credentials/ini_file.h"
#include "tests/daemon/source/credentials/fake_environment.h"

namespace weightd::source {
namespace {

using testing::HasSubstr;

constexpr int kPatienceMilliseconds = 20'000;

// "key secret token", "none", or the error's message. No error holds what the tests call hush.
std::string Fetch(CredentialSource& source) {
  Cancellation cancellation;
  const absl::StatusOr<std::optional<FetchedCredentials>> got = source.Fetch(cancellation);
  if (!got.ok()) {
    EXPECT_THAT(got.status().ToString(), testing::Not(HasSubstr("hush")));
    EXPECT_FALSE(HintOf(got.status()).empty()) << got.status();
    return std::string(got.status().message());
  }
  if (!got->has_value()) {
    return "none";
  }
  const Credentials& credentials = (*got)->credentials;
  EXPECT_EQ(credentials.expires, absl::InfiniteFuture());
  EXPECT_FALSE(credentials.kind.empty());
  return absl::StrCat(credentials.access_key_id, " ", credentials.secret_access_key, " ",
                      credentials.session_token);
}

class CredentialFilesTest : public testing::Test {
 protected:
  std::string Given(const GivenCredentials& given) { return Fetch(*MakeGivenSource(given)); }
  std::string FromEnvironment() { return Fetch(*MakeEnvironmentSource(environment_.Get())); }
  std::string FromProfile(bool allow_process = false) {
    return Fetch(*MakeProfileSource(environment_.Get(), allow_process));
  }
  std::string FromS3cmd() { return Fetch(*MakeS3cmdSource(environment_.Get())); }

  FakeEnvironment environment_;
};

TEST(IniFile, IsReadAsAwsToolsDo) {
  const IniFile file = ParseIni(
      "\xef\xbb\xbf# of nobody\n"
      "top = 1\r\n"
      "nothing = # words ; more\n"
      "[ default ] ; words\n"
      "Key=value # words\n"
      "other = a#b;c\n"
      "nested =\n"
      "  key = not this\n"
      "key = last\n"
      "empty =\n"
      "no setting\n"
      "[profile  'x y']\n"
      "  indented = 1\n"
      "  too = 2\n"
      "[default]\n"
      "more = = 3\n"
      "[unclosed\n");
  EXPECT_EQ(file.at(""), (IniSection{{"top", "1"}, {"nothing", ""}}));
  EXPECT_EQ(
      file.at("default"),
      (IniSection{
          {"key", "last"}, {"other", "a#b;c"}, {"nested", ""}, {"empty", ""}, {"more", "= 3"}}));
  EXPECT_EQ(file.at("profile x y"), (IniSection{{"indented", "1"}, {"too", "2"}}));
  EXPECT_EQ(file.size(), 3);
  EXPECT_EQ(ParseIni("").size(), 1);
}

TEST_F(CredentialFilesTest, AKeyWithItsSecretInAFile) {
  GivenCredentials given;
  EXPECT_EQ(Given(given), "none");
  given.access_key_id = "AKID";
  EXPECT_THAT(Given(given), HasSubstr("the file of the secret key is missing"));
  given.secret_key_file = environment_.Path("secret");
  EXPECT_THAT(Given(given), testing::AllOf(HasSubstr("the configuration's credentials"),
                                           HasSubstr(given.secret_key_file)));
  environment_.Write("secret", "hush/+=\n");
  EXPECT_EQ(Given(given), "AKID hush/+= ");
  given.session_token_file = environment_.Write("token", " hushed\n");
  EXPECT_EQ(Given(given), "AKID hush/+= hushed");
  for (const char* const text : {"hush\nhush", "hush hush", "hush\x7f", "h\xc3\xbcsh"}) {
    environment_.Write("secret", text);
    EXPECT_THAT(Given(given), HasSubstr("the secret access key is none"));
  }
  environment_.Write("secret", "\n");
  EXPECT_THAT(Given(given), HasSubstr("the secret access key is missing"));
  environment_.Write("secret", std::string(70'000, 'h'));
  EXPECT_THAT(Given(given), HasSubstr("longer than"));
  given.profile_file = "/etc/profiles";
  EXPECT_THAT(Given(given), HasSubstr("both"));
}

TEST_F(CredentialFilesTest, AFileOfProfiles) {
  GivenCredentials given;
  given.profile = "loader";
  EXPECT_THAT(Given(given), HasSubstr("not its file"));
  given.profile_file = environment_.Write("profiles",
                                          "[default]\naws_access_key_id=A\n"
                                          "aws_secret_access_key=hush\n"
                                          "[loader]\naws_access_key_id=B\n"
                                          "aws_secret_access_key=hush2\naws_session_token=T\n"
                                          "[half]\naws_access_key_id=C\n");
  EXPECT_EQ(Given(given), "B hush2 T");
  given.profile = "";
  EXPECT_EQ(Given(given), "A hush ");
  given.profile = "half";
  EXPECT_THAT(Given(given), testing::AllOf(HasSubstr("[half]"), HasSubstr("secret access key is "
                                                                          "missing")));
  given.profile = "other";
  EXPECT_THAT(Given(given), HasSubstr("no such profile"));
}

TEST_F(CredentialFilesTest, WhatIsNoFileIsRefusedAndDoesNotBlock) {
  GivenCredentials given;
  given.access_key_id = "AKID";
  given.secret_key_file = environment_.Path("pipe");
  ASSERT_EQ(mkfifo(given.secret_key_file.c_str(), 0600), 0);
  EXPECT_THAT(Given(given), HasSubstr("not a regular file"));
  given.secret_key_file = environment_.Path(".");
  EXPECT_THAT(Given(given), HasSubstr("not a regular file"));
  given.secret_key_file = "/dev/zero";
  EXPECT_THAT(Given(given), HasSubstr("longer than"));
}

TEST_F(CredentialFilesTest, AStampTellsAChangedFile) {
  const std::string path = environment_.Write("secret", "one");
  const FileStamp stamp = ReadTextFile(path)->stamp;
  EXPECT_FALSE(stamp.Changed());
  environment_.Write("secret", "two");
  EXPECT_TRUE(stamp.Changed()) << "another inode";
  const FileStamp second = ReadTextFile(path)->stamp;
  EXPECT_FALSE(second.Changed());
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::nanoseconds(1000));
  EXPECT_TRUE(second.Changed()) << "another time";
  std::filesystem::remove(path);
  EXPECT_TRUE(second.Changed());
  const FileStamp missing = FileStamp::Missing(path);
  EXPECT_FALSE(missing.Changed());
  environment_.Write("secret", "three");
  EXPECT_TRUE(missing.Changed());
}

TEST_F(CredentialFilesTest, TheEnvironment) {
  EXPECT_EQ(FromEnvironment(), "none");
  environment_.Set("AWS_ACCESS_KEY_ID", "AKID");
  EXPECT_THAT(FromEnvironment(), testing::AllOf(HasSubstr("AWS_ACCESS_KEY_ID"),
                                                HasSubstr("secret access key is missing")));
  environment_.Set("AWS_SECRET_ACCESS_KEY", "hush");
  EXPECT_EQ(FromEnvironment(), "AKID hush ");
  environment_.Set("AWS_SESSION_TOKEN", "T");
  EXPECT_EQ(FromEnvironment(), "AKID hush T");
  environment_.Set("AWS_SESSION_TOKEN", "T\r\nHost: elsewhere");
  EXPECT_THAT(FromEnvironment(), HasSubstr("the session token is none"));
  environment_.Set("AWS_ACCESS_KEY_ID", "");
  EXPECT_THAT(FromEnvironment(), HasSubstr("the access key id is missing"));
}

TEST_F(CredentialFilesTest, ProfilesOfTwoFiles) {
  EXPECT_EQ(FromProfile(), "none");
  environment_.Write(".aws/config",
                     "[default]\nregion = x\n"
                     "[profile both]\naws_access_key_id = C\naws_secret_access_key = hush\n"
                     "[profile half]\naws_secret_access_key = hush\n"
                     "[profile mine]\naws_access_key_id = D\naws_secret_access_key = hush\n"
                     "[bare]\naws_access_key_id = E\naws_secret_access_key = hush\n");
  EXPECT_EQ(FromProfile(), "none") << "a file with nothing but a region";
  environment_.Write(".aws/credentials",
                     "[default]\naws_access_key_id = A\naws_secret_access_key = hush\n"
                     "[both]\naws_access_key_id = B\naws_secret_access_key = hush\n"
                     "[half]\naws_access_key_id = F\n");
  EXPECT_EQ(FromProfile(), "A hush ");
  environment_.Set("AWS_PROFILE", "both");
  EXPECT_EQ(FromProfile(), "B hush ");
  environment_.Set("AWS_PROFILE", "mine");
  EXPECT_EQ(FromProfile(), "D hush ");
  environment_.Set("AWS_PROFILE", "bare");
  EXPECT_THAT(FromProfile(), HasSubstr("don't have"));
  environment_.Set("AWS_PROFILE", "half");
  EXPECT_THAT(FromProfile(), HasSubstr("AWS profile \"half\": the secret access key is missing"));
}

TEST_F(CredentialFilesTest, VariablesNameTheFilesOfProfiles) {
  environment_.Write(".aws/credentials",
                     "[default]\naws_access_key_id=A\naws_secret_access_key=hush\n");
  environment_.Set("AWS_SHARED_CREDENTIALS_FILE", "~/other");
  EXPECT_THAT(FromProfile(), testing::AllOf(HasSubstr("AWS_SHARED_CREDENTIALS_FILE"),
                                            HasSubstr(environment_.Path("other"))));
  environment_.Write("other", "[default]\naws_access_key_id=B\naws_secret_access_key=hush\n");
  EXPECT_EQ(FromProfile(), "B hush ");
  environment_.Set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
  EXPECT_EQ(FromProfile(), "none") << "how a file is switched off";
  environment_.Set("AWS_CONFIG_FILE",
                   environment_.Write("conf",
                                      "[profile default]\naws_access_key_id=C\n"
                                      "aws_secret_access_key=hush\n[default]\nregion=x"));
  EXPECT_EQ(FromProfile(), "C hush ");
  environment_.Write("conf", std::string(70'000, '#'));
  EXPECT_THAT(FromProfile(), HasSubstr("longer than"));
}

TEST_F(CredentialFilesTest, AProfileWithAnotherIdentityIsNotReplacedByItsKeys) {
  for (const char* const other :
       {"role_arn = arn:aws:iam::1:role/r", "sso_session = s", "credential_source = Environment"}) {
    environment_.Write(".aws/credentials", absl::StrCat("[default]\naws_access_key_id=A\n"
                                                        "aws_secret_access_key=hush\n",
                                                        other, "\n"));
    EXPECT_THAT(FromProfile(), HasSubstr("is not supported in profiles"));
  }
}

TEST_F(CredentialFilesTest, AProgramIsRunOnlyWhenThatIsAllowed) {
  environment_.Write(".aws/config", absl::StrCat("[default]\ncredential_process = touch ",
                                                 environment_.Path("ran"),
                                                 "; echo '{\"Version\": 1, \"AccessKeyId\": \"P\","
                                                 " \"SecretAccessKey\": \"hush\"}'\n"));
  EXPECT_THAT(FromProfile(), HasSubstr("running one is not allowed"));
  EXPECT_FALSE(std::filesystem::exists(environment_.Path("ran")));
  EXPECT_EQ(FromProfile(true), "P hush ");
  EXPECT_TRUE(std::filesystem::exists(environment_.Path("ran")));
}

TEST_F(CredentialFilesTest, AProgramsFaults) {
  const auto running = [this](const std::string& command) {
    environment_.Write(".aws/config", "[default]\ncredential_process = " + command);
    return FromProfile(true);
  };
  EXPECT_THAT(running("echo hush >&2; exit 1"), HasSubstr("credential_process fails"));
  EXPECT_THAT(running("/nowhere"), HasSubstr("credential_process fails"));
  EXPECT_THAT(running("echo hush"), HasSubstr("no JSON object"));
  EXPECT_THAT(running("echo '{\"Version\": 2, \"AccessKeyId\": \"hush\"}'"),
              HasSubstr("\"Version\": 1"));
  EXPECT_THAT(running("echo '{\"Version\": 1, \"AccessKeyId\": 7}'"), HasSubstr("not what"));
  EXPECT_THAT(running("cat /dev/zero"), HasSubstr("prints more than"));
  // What it leaves behind holds the pipe open and is not waited for.
  const absl::Time begin = absl::Now();
  EXPECT_THAT(running("sleep 100 & echo hush"), HasSubstr("no JSON object"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
}

TEST_F(CredentialFilesTest, ACancelledProgramEndsWithWhatItStarted) {
  const std::string pipe = environment_.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const Fd reader(open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  environment_.Write(".aws/config",
                     absl::StrCat("[default]\ncredential_process = (echo; exec sleep 1000) > ",
                                  pipe, " & wait\n"));
  const std::unique_ptr<CredentialSource> source = MakeProfileSource(environment_.Get(), true);
  Cancellation cancellation;
  std::thread canceller([&] {
    pollfd started = {.fd = reader.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&started, 1, kPatienceMilliseconds), 1);
    cancellation.Cancel(Error(Reason::kCancelled, "nobody waits"));
  });
  EXPECT_EQ(source->Fetch(cancellation).status().message(), "nobody waits");
  canceller.join();
  char line = 0;
  ASSERT_EQ(read(reader.get(), &line, 1), 1);
  pollfd ended = {.fd = reader.get(), .events = 0, .revents = 0};
  EXPECT_EQ(poll(&ended, 1, kPatienceMilliseconds), 1) << "nobody holds the pipe any more";
}

TEST_F(CredentialFilesTest, S3cmdsFile) {
  EXPECT_EQ(FromS3cmd(), "none");
  environment_.Write(".s3cfg", "[default]\nhost_base = s3.example:9000\naccess_key =\n");
  EXPECT_EQ(FromS3cmd(), "none") << "a file that only names a host";
  environment_.Write(".s3cfg", "[default]\naccess_key = A\n");
  EXPECT_THAT(FromS3cmd(), testing::AllOf(HasSubstr(".s3cfg"), HasSubstr("missing")));
  const std::string path = environment_.Write(
      ".s3cfg",
      "[default]\naccess_key = A\nsecret_key = \"hush\"\naccess_token = T\n"
      "host_base = s3.example:9000\nhost_bucket = %(bucket)s.s3.example:9000\nuse_https = False\n");
  EXPECT_EQ(FromS3cmd(), "A hush T");
  const absl::StatusOr<S3cmdFile> file = ReadS3cmdFile(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->settings.host_base, "s3.example:9000");
  EXPECT_EQ(file->settings.host_bucket, "%(bucket)s.s3.example:9000");
  EXPECT_FALSE(file->settings.use_https);
  environment_.Write(".s3cfg", std::string(70'000, '#'));
  EXPECT_THAT(FromS3cmd(), HasSubstr("longer than"));
}

}  // namespace
}  // namespace weightd::source
