#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/cpp/client.h"
#include "common/fd.h"
#include "common/status.h"
#include "tests/fakes/fake_daemon.h"
#include "weightd/v1/handles.pb.h"

// A daemon that lies or falls silent: the client neither crashes nor hangs, and says what is wrong.

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::MakeMemfd;
using fakes::SmallModel;
using Tamper = std::function<void(v1::HandleReply&, std::vector<Fd>&)>;

class HostileDaemonTest : public testing::Test {
 protected:
  HostileDaemonTest() {
    daemon_.Add("small", SmallModel());
    auto client = Client::Connect({daemon_.socket_dir()});
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = std::make_unique<Client>(*std::move(client));
  }

  absl::Status AttachWith(Tamper tamper) {
    FakeDaemon::Faults faults;
    faults.tamper = std::move(tamper);
    return AttachWith(std::move(faults));
  }

  absl::Status AttachWith(FakeDaemon::Faults faults) {
    daemon_.Set(std::move(faults));
    AttachOptions options;
    options.timeout = absl::Milliseconds(300);
    return client_->Attach("small", options).status();
  }

  FakeDaemon daemon_;
  std::unique_ptr<Client> client_;
};

TEST_F(HostileDaemonTest, UnsealedSegment) {
  const absl::Status status = AttachWith([](v1::HandleReply&, std::vector<Fd>& fds) {
    fds[0] = MakeMemfd(std::string(4096, 'x'), /*sealed=*/false);
  });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileDaemonTest, SegmentSmallerThanAnnounced) {
  const absl::Status status = AttachWith(
      [](v1::HandleReply&, std::vector<Fd>& fds) { fds[0] = MakeMemfd(std::string(100, 'x')); });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileDaemonTest, SegmentLargerThanAllMemory) {
  const absl::Status status = AttachWith([](v1::HandleReply& reply, std::vector<Fd>&) {
    reply.mutable_handles()->mutable_handles(0)->set_nbytes(uint64_t{1} << 63);
  });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileDaemonTest, NoMemoryFile) {
  const absl::Status status = AttachWith([](v1::HandleReply&, std::vector<Fd>& fds) {
    fds[0] = *MakeMemfd("").ReopenReadOnly();
    fds[1] = Fd(fileno(std::tmpfile()));
  });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileDaemonTest, FewerDescriptorsThanAnnounced) {
  EXPECT_EQ(ReasonOf(AttachWith([](v1::HandleReply&, std::vector<Fd>& fds) { fds.pop_back(); })),
            Reason::kInternal);
}

TEST_F(HostileDaemonTest, MoreDescriptorsThanAnnounced) {
  EXPECT_EQ(ReasonOf(AttachWith(
                [](v1::HandleReply&, std::vector<Fd>& fds) { fds.push_back(MakeMemfd("more")); })),
            Reason::kInternal);
}

TEST_F(HostileDaemonTest, NoIndex) {
  EXPECT_EQ(ReasonOf(AttachWith([](v1::HandleReply& reply, std::vector<Fd>& fds) {
              reply.mutable_handles()->mutable_handles()->RemoveLast();
              fds.pop_back();
            })),
            Reason::kInternal);
}

TEST_F(HostileDaemonTest, AnswerToAnotherQuestion) {
  EXPECT_EQ(ReasonOf(AttachWith([](v1::HandleReply& reply, std::vector<Fd>&) {
              reply.mutable_handles()->set_lease_id(999);
            })),
            Reason::kInternal);
}

TEST_F(HostileDaemonTest, EmptyAnswer) {
  // An empty packet looks like the end of the session.
  EXPECT_EQ(ReasonOf(AttachWith([](v1::HandleReply& reply, std::vector<Fd>& fds) {
              reply.Clear();
              fds.clear();
            })),
            Reason::kDaemonUnreachable);
}

TEST_F(HostileDaemonTest, UnknownHandlesAreIgnored) {
  daemon_.Set({.tamper = [](v1::HandleReply& reply, std::vector<Fd>& fds) {
    reply.mutable_handles()->add_handles()->set_kind(static_cast<v1::Handle::Kind>(77));
    fds.push_back(MakeMemfd("from a later version"));
  }});
  const auto model = client_->Attach("small");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->tensor("a").ok());
}

TEST_F(HostileDaemonTest, IndexBeyondTheSegment) {
  auto lie = SmallModel();
  lie.index.mutable_layout()->mutable_pieces(0)->set_offset(uint64_t{1} << 40);
  daemon_.Add("lie", lie);
  const auto model = client_->Attach("lie");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ReasonOf(model->tensor("a").status()), Reason::kMalformedModel);
  EXPECT_EQ(ReasonOf(model->tensors().status()), Reason::kMalformedModel);
  EXPECT_EQ(ReasonOf(model->metadata().status()), Reason::kMalformedModel);
}

// A model with one small file, of which the daemon says this; attached.
class HostileSmallFilesTest : public HostileDaemonTest {
 protected:
  static fakes::FakeModel WithFile(const std::string& name, uint64_t offset, uint64_t bytes) {
    fakes::FakeModel model = SmallModel();
    model.small_files = "0123456789";
    fakes::AddSmallFile(model, name, offset, bytes);
    return model;
  }

  void ExpectRefused(const fakes::FakeModel& lie, const std::string& name) {
    daemon_.Add("lie", lie);
    const auto model = client_->Attach("lie");
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(ReasonOf(model->files().status()), Reason::kMalformedModel) << name;
    EXPECT_EQ(ReasonOf(model->file(name).status()), Reason::kMalformedModel) << name;
    EXPECT_FALSE(HintOf(model->file(name).status()).empty());
    EXPECT_TRUE(model->tensor("a").ok()) << "the weights are as good as before";
  }

  absl::Status AttachWithBeside(Tamper tamper) {
    daemon_.Add("small", WithFile("config.json", 0, 10));
    return AttachWith(std::move(tamper));
  }
};

TEST_F(HostileSmallFilesTest, PlacesBeyondWhatWasSent) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (const auto& [offset, bytes] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 11}, {10, 1}, {11, 0}, {5, 6}, {kMost, 2}, {2, kMost}, {kMost, kMost}}) {
    ExpectRefused(WithFile("config.json", offset, bytes), "config.json");
  }
}

TEST_F(HostileSmallFilesTest, NamesThatLeadOutOfAFolder) {
  for (const std::string& name :
       {std::string(), std::string("/etc/passwd"), std::string("../config.json"),
        std::string("a/../../b"), std::string("a//b"), std::string("a/"), std::string("."),
        std::string("./a"), std::string("a\0b", 3)}) {
    ExpectRefused(WithFile(name, 0, 10), name);
  }
}

TEST_F(HostileSmallFilesTest, OneNameTwice) {
  fakes::FakeModel lie = WithFile("config.json", 0, 5);
  fakes::AddSmallFile(lie, "config.json", 5, 5);
  daemon_.Add("lie", lie);
  const auto model = client_->Attach("lie");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ReasonOf(model->files().status()), Reason::kMalformedModel);
}

TEST_F(HostileSmallFilesTest, DescribedButNotSent) {
  fakes::FakeModel lie = WithFile("config.json", 0, 10);
  lie.small_files.clear();
  ExpectRefused(lie, "config.json");
}

TEST_F(HostileSmallFilesTest, IndexThatIsNone) {
  fakes::FakeModel lie = WithFile("config.json", 0, 10);
  lie.index.mutable_layout()->mutable_pieces(0)->set_offset(uint64_t{1} << 40);
  daemon_.Add("lie", lie);
  const auto model = client_->Attach("lie");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(ReasonOf(model->files().status()), Reason::kMalformedModel);
  EXPECT_EQ(ReasonOf(model->file("config.json").status()), Reason::kMalformedModel);
}

TEST_F(HostileSmallFilesTest, UnsealedDescriptor) {
  const absl::Status status = AttachWithBeside([](v1::HandleReply&, std::vector<Fd>& fds) {
    fds[2] = MakeMemfd("0123456789", /*sealed=*/false);
  });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileSmallFilesTest, DescriptorSmallerThanAnnounced) {
  const absl::Status status = AttachWithBeside(
      [](v1::HandleReply&, std::vector<Fd>& fds) { fds[2] = MakeMemfd("012345678"); });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileSmallFilesTest, DescriptorLargerThanAllMemory) {
  const absl::Status status = AttachWithBeside([](v1::HandleReply& reply, std::vector<Fd>&) {
    reply.mutable_handles()->mutable_handles(2)->set_nbytes(uint64_t{1} << 63);
  });
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
}

TEST_F(HostileSmallFilesTest, SecondDescriptorIsIgnored) {
  daemon_.Add("small", WithFile("config.json", 0, 10));
  daemon_.Set({.tamper = [](v1::HandleReply& reply, std::vector<Fd>& fds) {
    v1::Handle* more = reply.mutable_handles()->add_handles();
    more->set_kind(v1::Handle::SMALL_FILES);
    more->set_nbytes(10);
    fds.push_back(MakeMemfd("9876543210"));
  }});
  const auto model = client_->Attach("small");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->file("config.json").value_or("none"), "0123456789");
}

TEST_F(HostileDaemonTest, SilentAcquireEndsAtTheDeadline) {
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReasonOf(AttachWith({.stalls_acquires = true})), Reason::kDeadline);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
}

TEST_F(HostileDaemonTest, SilentClaimEndsAtTheDeadline) {
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReasonOf(AttachWith({.answers_claims = false})), Reason::kDeadline);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
}

TEST_F(HostileDaemonTest, LateAnswersAreNotTakenForOthers) {
  // The first claim's answer comes after its deadline: the next attach drops it and takes its own.
  absl::Status first = AttachWith(
      [](v1::HandleReply&, std::vector<Fd>&) { absl::SleepFor(absl::Milliseconds(600)); });
  EXPECT_EQ(ReasonOf(first), Reason::kDeadline) << first;
  daemon_.Set({});
  const auto second = client_->Attach("small");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->tensor("a").ok());
  EXPECT_TRUE(daemon_.AwaitLeases(1));
}

TEST_F(HostileDaemonTest, UnansweredReleaseIsMadeUpFor) {
  {
    const auto model = client_->Attach("small");
    ASSERT_TRUE(model.ok());
    daemon_.Set({.stalls_releases = true});
  }
  EXPECT_EQ(daemon_.leases(), 1u);
  daemon_.Set({});
  ASSERT_TRUE(client_->Attach("small").ok());
  EXPECT_EQ(daemon_.leases(), 0u);
}

TEST_F(HostileDaemonTest, DaemonWithoutGreeting) {
  daemon_.Set({.greets = false});
  const absl::Status status =
      Client::Connect({daemon_.socket_dir(), absl::Milliseconds(200)}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kDaemonUnreachable) << status;
}

}  // namespace
}  // namespace weightd::client
