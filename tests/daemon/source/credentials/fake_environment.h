#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_CREDENTIALS_FAKE_ENVIRONMENT_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_CREDENTIALS_FAKE_ENVIRONMENT_H_

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "daemon/source/credentials/credential_source.h"

namespace weightd::source {

// Variables and a home folder of a test's own. Outlives what was made from Get(). Not thread-safe.
class FakeEnvironment {
 public:
  FakeEnvironment() {
    std::string name = (std::filesystem::temp_directory_path() / "home-XXXXXX").string();
    home_ = mkdtemp(name.data());
    // Whatever the machine has.
    Set("AWS_EC2_METADATA_DISABLED", "true");
  }
  ~FakeEnvironment() { std::filesystem::remove_all(home_); }
  FakeEnvironment(const FakeEnvironment&) = delete;

  Environment Get() const {
    return {.variable =
                [this](absl::string_view name) {
                  const auto found = variables_.find(std::string(name));
                  return found == variables_.end() ? std::string() : found->second;
                },
            .home = home_};
  }

  void Set(const std::string& name, const std::string& value) { variables_[name] = value; }

  // Where a file of that name lies below the home folder.
  std::string Path(const std::string& name) const { return home_ + "/" + name; }

  // Replaces it as a whole, as whoever mounts secrets does: another inode.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = Path(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
    return path;
  }

 private:
  std::string home_;
  std::map<std::string, std::string> variables_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_CREDENTIALS_FAKE_ENVIRONMENT_H_
