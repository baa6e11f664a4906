#ifndef WEIGHTD_DAEMON_SERVICE_TAKEN_BACK_H_
#define WEIGHTD_DAEMON_SERVICE_TAKEN_BACK_H_

#include <sys/stat.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "daemon/service/owner.h"

namespace weightd::service {

// A folder that is ours again if an earlier run gave it to another user; put back as it was unless
// it is kept. CAP_CHOWN is all it takes, whatever the folder's owner did to its mode.
class TakenBack {
 public:
  // `place` is a descriptor of the folder (O_PATH). Nothing happens unless it is that of `owner`.
  // `mode` is what the folder then has; `path` is for errors.
  static absl::StatusOr<TakenBack> Take(Fd place, const Owner& owner, mode_t mode,
                                        const std::string& path);
  ~TakenBack();
  TakenBack(TakenBack&& other) noexcept;

  // Invalid, with errno, if it can't be opened.
  Fd Open() const;
  // Whether it was another user's.
  bool given_before() const { return given_before_; }
  void Keep() { put_back_ = false; }

 private:
  TakenBack(Fd place, struct stat found, bool given_before);
  bool Give(uid_t user) const;
  bool SetMode(mode_t mode) const;

  Fd place_;
  struct stat found_;
  bool given_before_;
  bool put_back_;
};

// Removes what has that name there, whatever it is; a folder is moved aside with all that is in it.
absl::Status ClearAway(const Fd& folder, absl::string_view name);

// Why an owner could not be changed.
absl::Status CanNotGive(absl::string_view path, int error);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TAKEN_BACK_H_
