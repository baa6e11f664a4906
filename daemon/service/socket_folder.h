#ifndef WEIGHTD_DAEMON_SERVICE_SOCKET_FOLDER_H_
#define WEIGHTD_DAEMON_SERVICE_SOCKET_FOLDER_H_

#include <sys/socket.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "daemon/service/owner.h"

namespace weightd::service {

inline constexpr absl::string_view kWeightsSocket = "weightd.sock";
inline constexpr absl::string_view kAdminSocket = "admin.sock";
inline constexpr absl::string_view kHandlesSocket = "handles.sock";

struct SocketFolderOptions {
  std::string path;
  mode_t mode = 0700;
  // Whose it is while clients may come. To give it to another user takes CAP_CHOWN.
  Owner owner = {};
  // Told once, in words for people, when another daemon still holds the folder and we wait for it
  // to end.
  std::function<void(absl::string_view)> on_wait = [](absl::string_view) {};
  // Told once, when Serves() finds that nobody finds us any more.
  std::function<void()> on_lost = [] {};
  // How long to wait for a holder that still answers its clients. For one that doesn't (it is
  // dying: the kernel frees its memory before it drops the lock, seconds for a large cache) there
  // is no limit but `cancellation`.
  absl::Duration patience = absl::Seconds(3);
};

// The folder in which one daemon serves: held by a lock on `weightd.lock`, so that there is one
// daemon at a time however its predecessor ended. Touches nothing in it but the lock and the
// sockets it is asked to bind. The sockets are removed when this dies, if they are still those it
// made; the lock file stays. Not thread-safe, but for Serves.
//
// A folder that is another user's while clients may come is ours as long as we change it: from Open
// to GiveAway, and from Unbind on. What its owner put there meanwhile, in the place of the lock or
// of the sockets, is cleared away, never followed and never waited for: it hurts nobody else.
class SocketFolder {
 public:
  // Creates the folder if it is absent (its parent must be there) and takes the lock. An existing
  // folder gets mode and group only if it is empty or has been a weightd's before. Refused: a path
  // too long for a socket address, a folder that others may write to, and to give away a folder
  // that holds other things, is a link, or lies where others may put another in its place.
  static absl::StatusOr<std::unique_ptr<SocketFolder>> Open(SocketFolderOptions options,
                                                            Cancellation& cancellation);
  ~SocketFolder();
  SocketFolder(const SocketFolder&) = delete;

  // A non-blocking listening socket of SOCK_STREAM or SOCK_SEQPACKET at path()/name. It appears
  // under its name only once it has its mode and listens. A stale socket is replaced, one that
  // somebody still serves never. Who connects can't send descriptors, see RefusesDescriptors.
  // Before GiveAway.
  absl::StatusOr<Fd> Bind(absl::string_view name, int type, mode_t mode);

  // Lets the owner of the options have the folder.
  absl::Status GiveAway();

  // False once the path of a socket that we bound leads to it no more: the folder or the socket was
  // removed, or has another in its place. True of a folder that we gave away, whose owner may do
  // that. Thread-safe.
  bool Serves() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes our sockets: nobody new finds us, and a successor knows that we are ending.
  void Unbind() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string& path() const { return options_.path; }

 private:
  struct Bound {
    std::string name;
    dev_t device;
    ino_t inode;
  };

  SocketFolder(SocketFolderOptions options, Fd folder, Fd lock);
  std::string PathOf(absl::string_view name) const;
  // Nothing but a socket may be there, and nobody listen on it.
  absl::Status CheckFree(absl::string_view name, int type) const;

  const SocketFolderOptions options_;
  const Fd folder_;
  const Fd lock_;
  mutable absl::Mutex mutex_;
  std::vector<Bound> bound_ ABSL_GUARDED_BY(mutex_);
  mutable bool told_ ABSL_GUARDED_BY(mutex_) = false;
};

// Whether the kernel keeps those who connect to a socket of ours from sending descriptors
// (SO_PASSRIGHTS, Linux 6.16). Where it doesn't, the end of a connection with descriptors that
// nobody received drops them on our thread, and a socket among them may make it wait (SO_LINGER).
bool RefusesDescriptors(const Fd& listening);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_SOCKET_FOLDER_H_
