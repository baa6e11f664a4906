#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_EXCHANGE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/uri.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/http/http_piece.h"
#include "daemon/source/trail.h"

namespace weightd::source {

// What is asked of a server in one request, and what is made of the answer. Used by one thread at a
// time.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const Uri& uri() const = 0;
  virtual Question question() const { return Question::kBytes; }
  // The value of Range, without "bytes="; empty: none. Asked anew for each try.
  virtual std::string Range() const = 0;
  // The ETag of If-Match; empty: none.
  virtual std::string IfMatch() const = 0;
  // Told of redirects, if it is not null.
  virtual Trail* trail() const { return nullptr; }

  // Whether an answer could as well be that to another request: what a server sends too late, or
  // too much of, is read as the next answer of its connection.
  virtual bool MayBeAnothers(const Answer&) const { return false; }
  // A 200 or 206. Not OK ends the exchange for good.
  virtual absl::Status OnHead(const Answer& answer) = 0;
  // Where the next bytes of the body go, if it is one place; Took() says how many came. Both only
  // for exchanges that are worth a connection of their own.
  virtual bool has_place() const { return false; }
  virtual absl::Span<std::byte> Space() { return {}; }
  virtual bool Took(size_t) { return false; }
  // Bytes of its body that came elsewhere. False: no more are wanted.
  virtual bool OnBody(absl::Span<const char> bytes) = 0;
  // The body came to its end.
  virtual void OnEnd() {}
  // Whether all that is wanted has come.
  virtual bool complete() const = 0;
  // Bytes that came so far, over all tries.
  virtual uint64_t arrived() const = 0;
};

// What is asked of servers in one go. Thread-safe.
class ExchangeQueue {
 public:
  virtual ~ExchangeQueue() = default;

  // The next one, for one of so many connections; null if there is none, now and for good.
  virtual Exchange* Next(int connections) = 0;
  // Whether there is only one.
  virtual bool single() const = 0;
};

// Brings a piece.
class PieceRead final : public Exchange {
 public:
  // Both outlive it.
  PieceRead(Piece* piece, ReadTally* tally) : piece_(piece), tally_(tally) {}

  const Uri& uri() const override { return piece_->object().uri; }
  std::string Range() const override;
  std::string IfMatch() const override;
  Trail* trail() const override { return piece_->object().trail.get(); }
  bool MayBeAnothers(const Answer& answer) const override;
  absl::Status OnHead(const Answer& answer) override;
  bool has_place() const override { return piece_->object().ranges; }
  absl::Span<std::byte> Space() override;
  bool Took(size_t bytes) override;
  bool OnBody(absl::Span<const char> bytes) override;
  bool complete() const override { return piece_->rest().empty(); }
  uint64_t arrived() const override { return piece_->arrived(); }

 private:
  Piece* const piece_;
  ReadTally* const tally_;
  // Where in the object the rest of the body lies.
  ByteRange body_;
};

// Brings a whole answer that is small.
class TextFetch final : public Exchange {
 public:
  TextFetch(const Uri& uri, size_t most_bytes) : uri_(uri), most_bytes_(most_bytes) {}

  const Uri& uri() const override { return uri_; }
  std::string Range() const override { return ""; }
  std::string IfMatch() const override { return ""; }
  absl::Status OnHead(const Answer& answer) override;
  bool OnBody(absl::Span<const char> bytes) override;
  void OnEnd() override { ended_ = true; }
  // An answer that is too long is not waited for; TakeText() says so.
  bool complete() const override { return ended_ || text_.size() > most_bytes_; }
  uint64_t arrived() const override { return 0; }

  // After the exchange succeeded.
  absl::StatusOr<std::string> TakeText();

 private:
  const Uri uri_;
  const size_t most_bytes_;
  std::string text_;
  bool ended_ = false;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_EXCHANGE_H_
