#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>

#include "client/cpp/client.h"
#include "common/status.h"
#include "tests/fakes/fake_daemon.h"

// What becomes of a client, its session and its models in a child.

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::SmallModel;

// Runs `body` in a child that must return 0 within ten seconds.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    _exit(body());
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class ForkTest : public testing::Test {
 protected:
  ForkTest() {
    daemon_.Add("small", SmallModel());
    client_ = *Client::Connect({daemon_.socket_dir()});
    model_ = *client_->Attach("small");
  }

  FakeDaemon daemon_;
  std::optional<Client> client_;
  std::optional<Model> model_;
};

TEST_F(ForkTest, ChildReadsAndDropsWithoutAWord) {
  EXPECT_EQ(InChild([this] {
              const bool reads = (*model_->tensor("b")->As<float>())[0] == 5;
              model_.reset();
              client_.reset();
              return reads ? 0 : 1;
            }),
            0);
  EXPECT_EQ(daemon_.leases(), 1u);
  EXPECT_EQ(daemon_.sessions(), 1u);
  // The parent's session works on.
  EXPECT_TRUE(client_->Attach("small").ok());
}

TEST_F(ForkTest, ChildMustConnectForItself) {
  EXPECT_EQ(InChild([this] {
              return ReasonOf(client_->Attach("small").status()) == Reason::kSessionInvalid ? 0 : 1;
            }),
            0);
}

TEST_F(ForkTest, SessionEndsWithTheParentThoughAChildLives) {
  int release[2];
  ASSERT_EQ(pipe(release), 0);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    close(release[1]);
    char byte = 0;
    _exit(read(release[0], &byte, 1) == 0 ? 0 : 1);
  }
  close(release[0]);
  model_.reset();
  client_.reset();
  EXPECT_TRUE(daemon_.AwaitSessions(0));
  close(release[1]);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace weightd::client
