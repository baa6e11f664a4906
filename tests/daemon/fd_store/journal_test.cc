#include "daemon/fd_store/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/servers/keeper_process.h"

namespace weightd::fd_store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Added = Journal::Added;

// What is left to do, in words.
std::vector<std::string> DoAll(Journal& journal) {
  std::vector<std::string> done;
  while (const auto task = journal.Next()) {
    done.push_back(task->entry == nullptr
                       ? "remove " + task->name
                       : absl::StrCat("store ", task->name, " ", TextOf(task->entry->fd)));
  }
  EXPECT_TRUE(journal.done());
  return done;
}

TEST(Journal, HasEachOpenFileOnceUnderAName) {
  Journal journal(10);
  const Fd file = FileWith("1");
  EXPECT_EQ(journal.Add("m", file.Duplicate().value()), Added::kNew);
  EXPECT_EQ(journal.Add("m", file.Duplicate().value()), Added::kThereAlready);
  EXPECT_EQ(journal.Add("n", file.Duplicate().value()), Added::kNew);
  EXPECT_EQ(journal.Add("m", FileWith("2")), Added::kNew);
  EXPECT_THAT(DoAll(journal), ElementsAre("store m 1", "store n 1", "store m 2"));
  EXPECT_THAT(DoAll(journal), IsEmpty());
}

TEST(Journal, RemovesBeforeItStores) {
  Journal journal(10);
  journal.Add("m", FileWith("1"));
  journal.Remove("m");
  journal.Add("m", FileWith("2"));
  EXPECT_THAT(DoAll(journal), ElementsAre("remove m", "store m 2"));
  EXPECT_EQ(journal.size(), 1);
}

TEST(Journal, StoresAllAgainForAKeeperThatLostAll) {
  Journal journal(10);
  journal.AddStored("old", FileWith("0"));
  journal.Add("m", FileWith("1"));
  EXPECT_THAT(DoAll(journal), ElementsAre("store m 1"));
  journal.Add("n", FileWith("2"));
  journal.Remove("gone");
  journal.StoreAll();
  EXPECT_THAT(DoAll(journal), ElementsAre("remove gone", "store m 1", "store n 2", "store old 0"));
}

TEST(Journal, TriesWhatWasRefusedAfterARemoval) {
  Journal journal(10);
  journal.Add("m", FileWith("1"));
  journal.Refuse(*journal.Next());
  EXPECT_THAT(DoAll(journal), IsEmpty());
  journal.TryRefused();
  EXPECT_THAT(DoAll(journal), ElementsAre("store m 1"));
  journal.Add("n", FileWith("2"));
  journal.Refuse(*journal.Next());
  journal.Remove("n");
  journal.TryRefused();
  EXPECT_THAT(DoAll(journal), ElementsAre("remove n"));
}

TEST(Journal, TakesNoMoreThanItsLimit) {
  Journal journal(2);
  EXPECT_EQ(journal.Add("a", FileWith("1")), Added::kNew);
  EXPECT_EQ(journal.AddStored("b", FileWith("2")), Added::kNew);
  EXPECT_EQ(journal.Add("c", FileWith("3")), Added::kFull);
  EXPECT_EQ(journal.turned_away(), 1);
  journal.Remove("a");
  EXPECT_EQ(journal.Add("c", FileWith("3")), Added::kNew);
  EXPECT_EQ(journal.turned_away(), 0);
  EXPECT_EQ(journal.Add("d", FileWith("4")), Added::kFull);
  journal.Remove("d");
  EXPECT_EQ(journal.turned_away(), 0);
}

TEST(Journal, KnowsWhatModelsDescriptorsAreOf) {
  Journal journal(10);
  const Fd taken_back = FileWith("0");
  journal.AddStored("old", taken_back.Duplicate().value());
  EXPECT_EQ(journal.models(), 0);
  EXPECT_EQ(journal.Add("old", taken_back.Duplicate().value(), "one"), Added::kThereAlready);
  journal.Add("m", FileWith("1"), "one");
  journal.Add("n", FileWith("2"), "other");
  EXPECT_EQ(journal.models(), 2);
  EXPECT_EQ(journal.ModelOf("old"), "one");
  EXPECT_EQ(journal.ModelOf("unknown"), "");
  journal.Remove("n");
  EXPECT_EQ(journal.models(), 1);
}

TEST(Journal, CountsWhatIsNotStored) {
  Journal journal(10);
  journal.AddStored("old", FileWith("0"));
  journal.Add("m", FileWith("1"));
  journal.Add("n", FileWith("2"));
  journal.Add("o", FileWith("3"));
  EXPECT_EQ(journal.size(), 4);
  EXPECT_EQ(journal.pending(), 3);
  EXPECT_EQ(journal.Done(), StoredNames{"old"});
  journal.Refuse(*journal.Next());
  journal.Refuse(*journal.Next());
  EXPECT_EQ(journal.Done(), StoredNames{"old"});
  EXPECT_EQ(journal.pending(), 1);
  EXPECT_EQ(journal.refused(), 2);
  journal.Remove("n");
  journal.Remove("o");
  EXPECT_EQ(journal.size(), 2);
  EXPECT_EQ(journal.pending(), 0);
  EXPECT_EQ(journal.refused(), 1);
  journal.TryRefused();
  while (journal.Next().has_value()) {
  }
  EXPECT_EQ(journal.Done(), (StoredNames{"m", "old"}));
  journal.Add("m", FileWith("one more"));
  EXPECT_EQ(journal.Done(), StoredNames{"old"}) << "all of a name, or it isn't done";
  journal.Remove("m");
  journal.Add("m", FileWith("1"));
  journal.StoreAll();
  EXPECT_EQ(journal.pending(), 2);
  EXPECT_EQ(journal.refused(), 0);
}

// A keeper beside it that fails and dies at any step.
TEST(Journal, EndsWithTheKeeperHoldingWhatItHolds) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::minstd_rand random(seed);
    Journal journal(1000);
    std::map<std::string, std::set<std::string>> wanted;
    std::map<std::string, std::set<std::string>> kept;
    const auto attend = [&](bool fails) {
      const auto task = journal.Next();
      if (!task.has_value()) {
        return false;
      }
      const bool does = !fails || random() % 2 == 0;  // a failure may have been done
      if (does && task->entry == nullptr) {
        kept.erase(task->name);
      } else if (does) {
        kept[task->name].insert(TextOf(task->entry->fd));
      }
      if (fails) {
        journal.Again(*task);
        if (random() % 2 == 0) {
          kept.clear();
        }
        journal.StoreAll();
      }
      return true;
    };
    for (int step = 0; step < 60; ++step) {
      const std::string name = absl::StrCat("m", random() % 4);
      const auto what = random() % 8;
      if (what < 3) {
        journal.Add(name, FileWith(absl::StrCat(step)));
        wanted[name].insert(absl::StrCat(step));
      } else if (what < 5) {
        journal.Remove(name);
        wanted.erase(name);
      } else {
        attend(what == 7);
      }
    }
    while (attend(false)) {
    }
    EXPECT_EQ(kept, wanted) << "seed " << seed;
  }
}

}  // namespace
}  // namespace weightd::fd_store
