// HTTP against a server that misbehaves: right bytes or a typed error, in time, whatever it does.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/source/http/http_source.h"
#include "tests/daemon/source/contract/source_contract.h"
#include "tests/servers/fault_http_server.h"

namespace weightd::source {
namespace {

const ReadPolicy kOperator = {.any_path = false, .any_address = true, .unpinned = false};
const ReadPolicy kClient = {};
constexpr absl::Duration kPatience = absl::Seconds(20);
constexpr size_t kObjectBytes = 3'000'000;

// `count` replies; one in `every`, from the first on, is a busy server's.
std::vector<Reply> BusyEvery(int every, int count) {
  std::vector<Reply> script;
  for (int i = 0; i < count; ++i) {
    script.push_back(i % every == 0 ? Reply::Status(503) : Reply::Right());
  }
  return script;
}

class HttpFaultTest : public testing::Test {
 protected:
  HttpFaultTest() {
    HttpSourceOptions options;
    options.connections = 2;
    options.chunk_bytes = 1 << 20;
    options.stall_timeout = absl::Milliseconds(300);
    options.attempts = 3;
    source_ = *MakeHttpSource(options);
  }

  void Use(int connections, size_t pieces, int attempts) {
    HttpSourceOptions options;
    options.connections = connections;
    options.chunk_bytes = kObjectBytes / pieces;
    options.attempts = attempts;
    source_ = *MakeHttpSource(options);
  }

  absl::StatusOr<ObjectVersion> Stat(const std::string& url, const ReadPolicy& policy = kOperator) {
    Cancellation cancellation;
    return source_->Stat(*Uri::Parse(url), policy, cancellation);
  }

  // Stats the object, then reads all of it while the server answers by the script.
  absl::Status ReadWhile(std::vector<Reply> script, Reply always = Reply::Right()) {
    const absl::StatusOr<ObjectVersion> version = Stat(server_.Url("/m?signature=secret"));
    if (!version.ok()) {
      return version.status();
    }
    server_.Script(std::move(script), std::move(always));
    return Read(*version, {0, version->size});
  }

  absl::Status Read(const ObjectVersion& version, ByteRange range,
                    const ReadPolicy& policy = kOperator) {
    read_.assign(range.size(), '\0');
    counted_ = 0;
    const ReadRequest request = {.object = &version,
                                 .range = range,
                                 .destination = reinterpret_cast<std::byte*>(read_.data())};
    ReadObserver observer;
    observer.on_bytes = [&](uint64_t bytes) { counted_ += bytes; };
    Cancellation cancellation;
    const absl::Time begin = absl::Now();
    const absl::Status status = source_->Read({&request, 1}, policy, observer, cancellation);
    EXPECT_LT(absl::Now() - begin, kPatience);
    EXPECT_THAT(status.ToString(), testing::Not(testing::AnyOf(testing::HasSubstr("inner words"),
                                                               testing::HasSubstr("secret"))));
    return status;
  }

  void ExpectRightBytes() const {
    EXPECT_TRUE(read_ == object_);
    EXPECT_EQ(counted_, object_.size());
  }

  const std::string object_ = Pattern(kObjectBytes);
  FaultHttpServer server_{object_};
  std::unique_ptr<Source> source_;
  std::string read_;
  std::atomic<uint64_t> counted_ = 0;
};

TEST_F(HttpFaultTest, WhatPassesIsRetriedUnseen) {
  const std::vector<Reply> faults = {
      Reply::Status(500),
      Reply::Status(503),
      Reply::Status(429),
      Reply::Cut(Reply::After::kReset, 0),
      Reply::Cut(Reply::After::kReset, 500'000),
      Reply::Cut(Reply::After::kClose, 0),
      Reply::Cut(Reply::After::kClose, 500'000),
      Reply::Cut(Reply::After::kStall, 0),
      Reply::Cut(Reply::After::kStall, 500'000),
  };
  for (const Reply& fault : faults) {
    EXPECT_EQ(ReadWhile({fault}), absl::OkStatus());
    ExpectRightBytes();
  }
}

TEST_F(HttpFaultTest, ARetryGoesOnWhereTheBytesEnded) {
  server_.Replace(Pattern(500'000), "\"small\"");
  ASSERT_EQ(ReadWhile({Reply::Cut(Reply::After::kClose, 1000)}), absl::OkStatus());
  EXPECT_TRUE(read_ == Pattern(500'000));
  EXPECT_EQ(counted_, 500'000);
  EXPECT_THAT(server_.requests().back(), testing::HasSubstr("Range: bytes=1000-499999"));
}

TEST_F(HttpFaultTest, WhatDoesNotPassEndsAfterTheAllowedTries) {
  for (const Reply& fault :
       {Reply::Status(500), Reply::Cut(Reply::After::kReset, 0),
        Reply::Cut(Reply::After::kClose, 0), Reply::Cut(Reply::After::kStall, 0)}) {
    const absl::Status status = ReadWhile({}, fault);
    EXPECT_EQ(ReasonOf(status), Reason::kSourceUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("gave up after 3 tries"));
    EXPECT_FALSE(HintOf(status).empty());
    server_.Script({});
  }
}

TEST_F(HttpFaultTest, AServerThatServesOthersMeanwhileIsBusyAndNotDown) {
  // Never two failures after one another, but now and then for the same piece.
  Use(/*connections=*/8, /*pieces=*/50, /*attempts=*/2);
  EXPECT_EQ(ReadWhile(BusyEvery(3, 90)), absl::OkStatus());
  ExpectRightBytes();
}

TEST_F(HttpFaultTest, AServerThatFailsEverySecondRequestIsSoonLeftAlone) {
  Use(/*connections=*/64, /*pieces=*/200, /*attempts=*/1000);
  EXPECT_EQ(ReasonOf(ReadWhile(BusyEvery(2, 600))), Reason::kSourceUnavailable);
  EXPECT_LT(server_.requests().size(), 100);
}

TEST_F(HttpFaultTest, WhatWillNotPassIsNotRetried) {
  const std::pair<int, Reason> refusals[] = {
      {401, Reason::kSourceDenied},   {403, Reason::kSourceDenied},  {404, Reason::kModelNotFound},
      {410, Reason::kModelNotFound},  {412, Reason::kSourceChanged}, {416, Reason::kSourceChanged},
      {418, Reason::kSourceProtocol}, {501, Reason::kSourceProtocol}};
  for (const auto& [code, reason] : refusals) {
    const size_t before = server_.requests().size();
    const absl::Status status = ReadWhile({}, Reply::Status(code));
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_FALSE(HintOf(status).empty());
    // The probe, and at most one request of each connection, asked again where a kept one turns out
    // to be closed.
    EXPECT_LE(server_.requests().size() - before, 6);
    server_.Script({});
  }
}

TEST_F(HttpFaultTest, AnAnswerThatIsNotWhatWasAskedForIsRefused) {
  const std::pair<Reply, Reason> answers[] = {
      {Reply::Header("Content-Range", "bytes 8-1048583/3000000"), Reason::kSourceProtocol},
      {Reply::Header("Content-Range", "bytes 0-1048575/*"), Reason::kSourceProtocol},
      {Reply::Header("Content-Range", ""), Reason::kSourceProtocol},
      {Reply::Header("Content-Range", "bytes 0-1048575/3000001"), Reason::kSourceChanged},
      {Reply::Header("Content-Encoding", "gzip"), Reason::kSourceProtocol},
      {Reply::Header("ETag", "\"v2\""), Reason::kSourceChanged},
      {Reply::Header("ETag", ""), Reason::kSourceChanged},
      {Reply::Header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"), Reason::kSourceChanged},
      {Reply::Whole(), Reason::kSourceProtocol}};
  for (const auto& [reply, reason] : answers) {
    const absl::Status status = ReadWhile({}, reply);
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_FALSE(HintOf(status).empty());
    EXPECT_EQ(counted_, 0);
    server_.Script({});
  }
}

TEST_F(HttpFaultTest, AWholeObjectForARangeThatIsAllOfItIsTaken) {
  server_.Replace(Pattern(500'000, 9), "\"small\"");
  ASSERT_EQ(ReadWhile({Reply::Whole()}), absl::OkStatus());
  EXPECT_TRUE(read_ == Pattern(500'000, 9));
}

TEST_F(HttpFaultTest, AWholeObjectOnAKeptConnectionIsAskedForAgain) {
  server_.Replace(Pattern(500'000, 9), "\"small\"");
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  ASSERT_EQ(Read(*version, {0, 500'000}), absl::OkStatus());
  // As what came too late of another answer would say.
  Reply late = Reply::Whole();
  late.body = Pattern(500'000, 3);
  const size_t before = server_.requests().size();
  server_.Script({late});
  ASSERT_EQ(Read(*version, {0, 500'000}), absl::OkStatus());
  EXPECT_TRUE(read_ == Pattern(500'000, 9));
  EXPECT_EQ(server_.requests().size() - before, 2);
}

TEST_F(HttpFaultTest, AServerWithoutRangesIsReadFromTheFirstByteAlsoByARetry) {
  server_.Script({}, Reply::Whole());
  Reply cut = Reply::Whole();
  cut.after = Reply::After::kClose;
  cut.after_bytes = 2'000'000;
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_FALSE(version->ranges);
  server_.Script({cut}, Reply::Whole());
  ASSERT_EQ(Read(*version, {0, version->size}), absl::OkStatus());
  ExpectRightBytes();
}

TEST_F(HttpFaultTest, AnObjectReplacedUnderAReadIsAChangedSource) {
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  server_.Replace(Pattern(kObjectBytes, 2), "\"v2\"");
  EXPECT_EQ(ReasonOf(Read(*version, {0, kObjectBytes})), Reason::kSourceChanged);
  EXPECT_THAT(server_.requests().back(), testing::HasSubstr("If-Match: \"v1\""));
}

TEST_F(HttpFaultTest, WithoutAnETagTheTimeOfModificationIsAWeakValidator) {
  server_.Replace(object_, "");
  server_.SetLastModified("Sat, 01 Jan 2000 00:00:00 GMT");
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  EXPECT_FALSE(version->strong);
  EXPECT_EQ(version->validator, "Sat, 01 Jan 2000 00:00:00 GMT");
  EXPECT_EQ(Read(*version, {0, kObjectBytes}), absl::OkStatus());
  ExpectRightBytes();
  server_.SetLastModified("Sun, 02 Jan 2000 00:00:00 GMT");
  EXPECT_EQ(ReasonOf(Read(*version, {0, kObjectBytes})), Reason::kSourceChanged);
}

TEST_F(HttpFaultTest, AWeakETagIsNotSentAsAPrecondition) {
  server_.Replace(object_, "W/\"v1\"");
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  EXPECT_FALSE(version->strong);
  EXPECT_EQ(Read(*version, {0, kObjectBytes}), absl::OkStatus());
  EXPECT_THAT(server_.requests().back(), testing::Not(testing::HasSubstr("If-Match")));
}

TEST_F(HttpFaultTest, ASlowServerIsNoStalledServer) {
  Reply slow;
  slow.drip = absl::Milliseconds(20);
  server_.Replace(Pattern(40'000), "\"small\"");
  EXPECT_EQ(ReadWhile({slow}), absl::OkStatus());
  EXPECT_TRUE(read_ == Pattern(40'000));
}

TEST_F(HttpFaultTest, AServerThatDripsForEverIsStalled) {
  Reply dripping;
  dripping.drip = absl::Milliseconds(20);
  dripping.drip_bytes = 1;
  server_.Replace(Pattern(40'000), "\"small\"");
  EXPECT_EQ(ReasonOf(ReadWhile({}, dripping)), Reason::kSourceUnavailable);
}

TEST_F(HttpFaultTest, TheProxyIsChosenByUsAlone) {
  // libcurl would take the name with the root's dot for the one without, and go there itself.
  setenv("http_proxy", server_.Url("/").c_str(), 1);
  setenv("no_proxy", "internal.corp.", 1);
  const auto source = MakeHttpSource({});
  unsetenv("http_proxy");
  unsetenv("no_proxy");
  ASSERT_TRUE(source.ok());
  Cancellation cancellation;
  const auto uri = Uri::Parse("http://internal.corp/m");
  ASSERT_TRUE(uri.ok());
  EXPECT_TRUE((*source)->Stat(*uri, {.any_address = true}, cancellation).ok());
  EXPECT_FALSE(server_.requests().empty());
}

TEST_F(HttpFaultTest, RedirectsAreFollowedAndBounded) {
  FaultHttpServer other(object_);
  server_.Script({Reply::RedirectTo(other.Url("/elsewhere"))});
  EXPECT_TRUE(Stat(server_.Url()).ok());
  server_.Script({Reply::RedirectTo("/relative")});
  EXPECT_TRUE(Stat(server_.Url()).ok());
  EXPECT_THAT(server_.requests().back(), testing::HasSubstr("GET /relative "));
  const size_t before = server_.requests().size();
  server_.Script({}, Reply::RedirectTo(server_.Url()));
  EXPECT_EQ(ReasonOf(Stat(server_.Url()).status()), Reason::kSourceProtocol);
  EXPECT_EQ(server_.requests().size() - before, 6);
  for (const char* const bad : {"file:///etc/passwd", "gopher://127.0.0.1/", "", "http://"}) {
    server_.Script({Reply::RedirectTo(bad)});
    EXPECT_EQ(ReasonOf(Stat(server_.Url()).status()), Reason::kSourceProtocol) << bad;
  }
}

TEST_F(HttpFaultTest, CredentialsStayWithTheServerTheyAreFor) {
  FaultHttpServer other(object_);
  server_.Script({Reply::RedirectTo("/same"), Reply::RedirectTo(other.Url("/elsewhere"))});
  std::string url = server_.Url();
  url.insert(7, "user:password@");
  ASSERT_TRUE(Stat(url).ok());
  EXPECT_THAT(server_.requests(), testing::Each(testing::HasSubstr("Authorization: Basic")));
  EXPECT_THAT(other.requests(), testing::Each(testing::Not(testing::HasSubstr("Authorization"))));
}

TEST_F(HttpFaultTest, ClientsReachNeitherLoopbackNorLinkLocalAddresses) {
  EXPECT_EQ(ReasonOf(Stat(server_.Url(), kClient).status()), Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat("http://localhost:1/m", kClient).status()), Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat("http://[::ffff:127.0.0.1]/m", kClient).status()),
            Reason::kAddressRefused);
  EXPECT_EQ(ReasonOf(Stat("http://169.254.169.254/latest/", kClient).status()),
            Reason::kAddressRefused);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(HttpFaultTest, AConnectionOfAnOperatorIsNotLentToAClient) {
  ASSERT_TRUE(Stat(server_.Url(), kOperator).ok());
  const size_t before = server_.requests().size();
  EXPECT_EQ(ReasonOf(Stat(server_.Url(), kClient).status()), Reason::kAddressRefused);
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(HttpFaultTest, AnAllowedNetworkIsReachedButNotARedirectOutOfIt) {
  HttpSourceOptions options;
  options.allowed_networks = {"127.0.0.0/8"};
  source_ = *MakeHttpSource(options);
  EXPECT_TRUE(Stat(server_.Url(), kClient).ok());
  server_.Script({Reply::RedirectTo("http://169.254.169.254/latest/meta-data/")});
  const absl::Status status = Stat(server_.Url(), kClient).status();
  EXPECT_EQ(ReasonOf(status), Reason::kAddressRefused);
  EXPECT_THAT(std::string(status.message()), testing::Not(testing::HasSubstr("169.254")));
}

TEST_F(HttpFaultTest, ConnectionsAreKeptAndUsedAgain) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(ReadWhile({}), absl::OkStatus());
    ExpectRightBytes();
  }
  // Two threads, each with one of libcurl's for the question and one of its own for the bytes.
  EXPECT_LE(server_.connections(), 4);
}

TEST_F(HttpFaultTest, AKeptConnectionIsNotForThoseWhoMayNotReachIt) {
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  ASSERT_EQ(Read(*version, {0, version->size}), absl::OkStatus());
  const size_t before = server_.requests().size();
  EXPECT_EQ(ReasonOf(Read(*version, {0, version->size}, kClient)), Reason::kAddressRefused);
  EXPECT_EQ(server_.requests().size(), before);
}

TEST_F(HttpFaultTest, ConnectionsThatTheServerEndedAreMadeAnew) {
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  server_.Script({}, Reply::Cut(Reply::After::kClose, 1 << 20));
  const size_t before = server_.requests().size();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Read(*version, {0, version->size}), absl::OkStatus());
    ExpectRightBytes();
  }
  EXPECT_EQ(server_.requests().size(), before + 9);
}

TEST_F(HttpFaultTest, ConnectionsThatEndAmidOthersMixNothing) {
  HttpSourceOptions options;
  options.connections = 6;
  // Of the object the last piece is a small one.
  options.chunk_bytes = 280'000;
  options.attempts = 20;
  source_ = *MakeHttpSource(options);
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  std::minstd_rand random(1);
  for (int round = 0; round < 20; ++round) {
    std::vector<Reply> script;
    for (int i = 0; i < 20; ++i) {
      const size_t after = random() % 300'000;
      script.push_back(random() % 4 == 0   ? Reply::Cut(Reply::After::kClose, after)
                       : random() % 8 == 0 ? Reply::Cut(Reply::After::kReset, after)
                                           : Reply::Right());
    }
    server_.Script(std::move(script), Reply::Cut(Reply::After::kClose, 280'000));
    ASSERT_EQ(Read(*version, {0, version->size}), absl::OkStatus());
    ExpectRightBytes();
  }
}

TEST_F(HttpFaultTest, WhereEveryTenthAnswerIsABusyServersAllIsReadAndLittleAskedTwice) {
  constexpr size_t kPieces = 300;
  HttpSourceOptions options;
  options.chunk_bytes = kObjectBytes / kPieces;
  source_ = *MakeHttpSource(options);
  for (unsigned seed = 1; seed <= 5; ++seed) {
    const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
    ASSERT_TRUE(version.ok());
    std::minstd_rand random(seed);
    std::vector<Reply> script;
    for (size_t i = 0; i < 2 * kPieces; ++i) {
      script.push_back(random() % 10 == 0 ? Reply::Status(503) : Reply::Right());
    }
    server_.Script(std::move(script));
    const size_t before = server_.requests().size();
    ASSERT_EQ(Read(*version, {0, version->size}), absl::OkStatus());
    ExpectRightBytes();
    EXPECT_LE(server_.requests().size() - before, kPieces * 12 / 10);
  }
}

TEST_F(HttpFaultTest, ABodyInChunksIsUnderstood) {
  const std::string object = Pattern(500'000);
  server_.Replace(object, "\"small\"");
  Reply chunked;
  chunked.headers = {{"Transfer-Encoding", "chunked"}, {"Content-Length", ""}};
  chunked.body = absl::StrCat(absl::Hex(object.size()), "\r\n", object, "\r\n0\r\n\r\n");
  ASSERT_EQ(ReadWhile({}, chunked), absl::OkStatus());
  EXPECT_TRUE(read_ == object);
}

TEST_F(HttpFaultTest, LinesAfterABodyHaveAnEnd) {
  const std::string object = Pattern(500'000);
  server_.Replace(object, "\"small\"");
  Reply chunked;
  chunked.headers = {{"Transfer-Encoding", "chunked"}, {"Content-Length", ""}};
  chunked.body = absl::StrCat(absl::Hex(object.size()), "\r\n", object, "\r\n0\r\n");
  for (int i = 0; i < 300; ++i) {
    absl::StrAppend(&*chunked.body, "X-More: ", std::string(1000, 'x'), "\r\n");
  }
  // Without an end, as far as anybody can tell who doesn't wait for it.
  chunked.after = Reply::After::kStall;
  chunked.after_bytes = chunked.body->size();
  const absl::Status status = ReadWhile({}, chunked);
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol) << status;
}

TEST_F(HttpFaultTest, AnAnswerLongerThanAnnouncedIsCutAndItsConnectionNotUsedAgain) {
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  for (const size_t bytes : {size_t{1000}, size_t{1} << 20}) {
    Reply longer;
    longer.body = absl::StrCat(object_.substr(0, bytes), "HTTP/1.1 200 OK\r\n");
    longer.headers = {{"Content-Length", absl::StrCat(bytes)}};
    server_.Script({longer});
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(Read(*version, {0, bytes}), absl::OkStatus());
      EXPECT_TRUE(read_ == object_.substr(0, bytes));
    }
  }
}

TEST_F(HttpFaultTest, ACancellationEndsAWaitingReadAtOnce) {
  HttpSourceOptions options;
  options.stall_timeout = absl::Hours(1);
  source_ = *MakeHttpSource(options);
  const absl::StatusOr<ObjectVersion> version = Stat(server_.Url());
  ASSERT_TRUE(version.ok());
  server_.Script({}, Reply::Cut(Reply::After::kStall, 1000));
  std::string bytes(version->size, '\0');
  const ReadRequest request = {.object = &*version,
                               .range = {0, version->size},
                               .destination = reinterpret_cast<std::byte*>(bytes.data())};
  Cancellation cancellation;
  absl::Time cancelled;
  std::thread canceller;
  ReadObserver observer;
  // Bytes came, and no more will come.
  observer.on_bytes = [&](uint64_t) {
    if (canceller.joinable()) {
      return;
    }
    canceller = std::thread([&] {
      cancelled = absl::Now();
      cancellation.Cancel(Error(Reason::kCancelled, "enough"));
    });
  };
  EXPECT_EQ(ReasonOf(source_->Read({&request, 1}, kOperator, observer, cancellation)),
            Reason::kCancelled);
  const absl::Time returned = absl::Now();
  canceller.join();
  EXPECT_LT(returned - cancelled, absl::Milliseconds(100));
}

}  // namespace
}  // namespace weightd::source
