#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_FAIR_SHARE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_FAIR_SHARE_H_

// Who gets how much where several reads want the same thing. Pure.

namespace weightd::source {

// Reads that somebody waits for have four fifths together, the others one fifth: they fall back and
// never starve. Where there are only reads of one kind, they have it all.
constexpr double kAwaitedPart = 0.8;

// How many reads of each kind there are.
struct ReadCounts {
  int awaited = 0;
  int background = 0;
};

// The part of one read of that kind, itself among `counts`, in (0, 1].
inline double ShareOf(bool awaited, ReadCounts counts) {
  const double whole = counts.awaited == 0 || counts.background == 0 ? 1.0
                       : awaited                                     ? kAwaitedPart
                                                                     : 1.0 - kAwaitedPart;
  return whole / (awaited ? counts.awaited : counts.background);
}

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_FAIR_SHARE_H_
