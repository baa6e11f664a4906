#ifndef WEIGHTD_DAEMON_KEEPER_FOLDER_H_
#define WEIGHTD_DAEMON_KEEPER_FOLDER_H_

#include <sys/types.h>

#include <string>

#include "common/fd.h"

namespace weightd::keeper {

// The folder in which one keeper serves, held by a lock on `keeper.lock`, however its predecessor
// ended. The socket is removed when this dies, if it is still the one it made; the lock file stays.
class Folder {
 public:
  Folder() = default;
  ~Folder();
  Folder(const Folder&) = delete;

  // Makes the folder if it is absent (mode 0700; its parent must be there) and takes the lock, for
  // which it waits a moment if a predecessor is about to end. Refused: a folder of another user
  // than root and our own, or one that others may write to. Empty, or in words what is wrong and
  // what to do.
  std::string Open(const std::string& path);

  // A listening socket at `keeper.sock`, mode 0600, which appears under its name only once it
  // listens. Invalid, with `problem` in words, if there can't be one.
  Fd Listen(std::string& problem);

  // Whether the socket that Listen made is still where others look for it.
  bool IsFound() const;
  // As Listen, in the place of one that isn't. Not where another keeper has taken the folder, whose
  // lock was removed.
  Fd ListenAgain(std::string& problem);

 private:
  // Takes it again where the file is gone.
  bool HoldsLock();

  std::string path_;
  Fd folder_;
  Fd lock_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace weightd::keeper

#endif  // WEIGHTD_DAEMON_KEEPER_FOLDER_H_
