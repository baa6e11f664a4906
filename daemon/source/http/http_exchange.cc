#include "daemon/source/http/http_exchange.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {
std::string PieceRead::Range() const {
  const ByteRange rest = piece_->rest();
  return piece_->object().ranges ? absl::StrCat(rest.begin, "-", rest.end - 1) : "";
}

std::string PieceRead::IfMatch() const {
  return piece_->object().strong ? piece_->object().validator : "";
}

// A 206 says which bytes it brings, a 200 doesn't.
bool PieceRead::MayBeAnothers(const Answer& answer) const {
  return answer.status == 200 && piece_->object().ranges;
}

absl::Status PieceRead::OnHead(const Answer& answer) {
  const ObjectVersion& object = piece_->object();
  // Whoever sends the whole object (200) sends it from its first byte, also to a retry; good if the
  // piece is all of it.
  const bool whole =
      answer.status == 200 && (!object.ranges || piece_->range() == ByteRange{0, object.size});
  body_ = whole ? ByteRange{0, object.size} : piece_->rest();
  return CheckBody(answer, object, body_);
}

absl::Span<std::byte> PieceRead::Space() {
  return body_.begin == piece_->rest().begin ? piece_->Space() : absl::Span<std::byte>();
}

bool PieceRead::Took(size_t bytes) {
  piece_->Took(bytes, *tally_);
  body_.begin += bytes;
  return !complete() || body_.empty();
}

bool PieceRead::OnBody(absl::Span<const char> bytes) {
  piece_->Take(body_.begin, bytes, *tally_);
  if (bytes.size() > body_.size()) {
    return false;
  }
  body_.begin += bytes.size();
  // A body that is read to its end leaves a connection that can be used again.
  return !complete() || body_.empty();
}

absl::Status TextFetch::OnHead(const Answer&) {
  text_.clear();  // of a try before
  ended_ = false;
  return absl::OkStatus();
}

bool TextFetch::OnBody(absl::Span<const char> bytes) {
  text_.append(bytes.data(), bytes.size());
  return text_.size() <= most_bytes_;
}

absl::StatusOr<std::string> TextFetch::TakeText() {
  if (text_.size() > most_bytes_) {
    return Error(Reason::kSourceProtocol,
                 absl::StrCat(uri_.Redacted(), ": an answer of more than ", most_bytes_, " bytes"),
                 "look at the server, or at a proxy on the way to it");
  }
  return std::move(text_);
}

}  // namespace weightd::source
