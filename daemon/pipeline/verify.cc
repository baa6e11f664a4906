#include "daemon/pipeline/verify.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/pipeline/parallel.h"

namespace weightd::pipeline {
namespace {

// More would take the node's cores from the models that are served.
constexpr size_t kMostThreads = 4;
// How far behind a cancellation a thread may be.
constexpr uint64_t kStepBytes = 4 << 20;

absl::Span<const std::byte> BytesOf(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

absl::Status Mismatch(const ModelFile& file, const Expected& expected, const std::string& found) {
  const bool pin = expected.by == Authority::kPin;
  const source::Checksum& checksum = expected.checksum;
  const auto parts = static_cast<uint32_t>(checksum.part_sizes.size());
  return Error(
      Reason::kVerificationFailed,
      absl::StrCat(PrintableText(file.name), ": its ", NameOf(checksum.kind), " is ",
                   source::ShowDigest(found, parts), ", but ", pin ? "the pin" : "the store",
                   " says ", source::ShowDigest(checksum.value, parts)),
      pin ? "check the pin, or find out who changed the file"
          : "the object was damaged in the store or on its way: try again, else store it anew");
}

// Whether parts of these sizes are all of `bytes`. Their sum may be more than a number holds.
bool MakeUp(absl::Span<const uint64_t> sizes, uint64_t bytes) {
  for (const uint64_t size : sizes) {
    if (size > bytes) {
      return false;
    }
    bytes -= size;
  }
  return bytes == 0;
}

}  // namespace

absl::StatusOr<std::vector<Expected>> AskChecksums(source::Source& source,
                                                   absl::Span<const ModelFile> files,
                                                   source::Source::PartSizes part_sizes,
                                                   const source::ReadPolicy& policy,
                                                   Cancellation& cancellation) {
  std::vector<std::vector<source::Checksum>> said(files.size());
  std::atomic<size_t> parts = 0;
  RETURN_IF_ERROR(ForEachAtOnce(files.size(), [&](size_t i) -> absl::Status {
    ASSIGN_OR_RETURN(said[i], source.Checksums(files[i].version, part_sizes, policy, cancellation));
    for (const source::Checksum& checksum : said[i]) {
      parts += checksum.part_sizes.size();
    }
    if (parts > kMostParts) {
      return Error(Reason::kSourceProtocol,
                   absl::StrCat("the store says checksums of more than ", kMostParts, " parts"),
                   "store the files in larger parts, or with checksums of whole objects");
    }
    return absl::OkStatus();
  }));
  std::vector<Expected> expected;
  for (uint32_t file = 0; file < said.size(); ++file) {
    for (source::Checksum& checksum : said[file]) {
      if (checksum.composite() && !MakeUp(checksum.part_sizes, files[file].version.size)) {
        return Error(
            Reason::kSourceProtocol,
            absl::StrCat(PrintableText(files[file].name), ": its parts are not as large as it is"));
      }
      expected.push_back({file, std::move(checksum), Authority::kStore});
    }
  }
  return expected;
}

Verifier::Verifier(absl::Span<const ModelFile> files, std::vector<Expected> expected,
                   source::Source::PartSizes part_sizes)
    : files_(files), expected_(std::move(expected)), part_sizes_(part_sizes) {
  for (const Expected& one : expected_) {
    Add(one);
  }
  std::sort(streams_.begin(), streams_.end(), [](const Stream& a, const Stream& b) {
    return std::tie(a.sum->file, a.rest.begin) < std::tie(b.sum->file, b.rest.begin);
  });
}

void Verifier::Add(const Expected& expected) {
  const source::Checksum& checksum = expected.checksum;
  const auto [first, last] = sums_.equal_range(expected.file);
  const auto same = std::find_if(first, last, [&](const auto& sum) {
    return sum.second.kind == checksum.kind && sum.second.part_sizes == checksum.part_sizes;
  });
  if (same != last) {
    same->second.expected.push_back(&expected);
    return;
  }
  Sum& sum = sums_
                 .emplace(std::piecewise_construct, std::forward_as_tuple(expected.file),
                          std::forward_as_tuple())
                 ->second;
  sum.file = expected.file;
  sum.kind = checksum.kind;
  sum.part_sizes = checksum.part_sizes;
  sum.expected = {&expected};
  std::vector<uint64_t> sizes = checksum.part_sizes;
  if (sizes.empty()) {
    sizes = {files_[expected.file].version.size};
  }
  sum.values.resize(sizes.size());
  sum.parts_left = sizes.size();
  uint64_t begin = 0;
  for (size_t part = 0; part < sizes.size(); ++part) {
    streams_.push_back({&sum, part, nullptr, {begin, begin + sizes[part]}});
    begin += sizes[part];
  }
}

Verifier::~Verifier() {
  if (!threads_.empty()) {
    arrivals_->Stop();
    Join();
  }
}

void Verifier::TakeHeader(uint32_t file, absl::string_view bytes) {
  auto stream = std::partition_point(streams_.begin(), streams_.end(), [file](const Stream& other) {
    return other.sum->file < file;
  });
  for (; stream != streams_.end() && stream->sum->file == file; ++stream) {
    const ByteRange rest = stream->rest;
    if (rest.begin >= bytes.size()) {
      return;
    }
    Update(*stream, BytesOf(bytes.substr(rest.begin, rest.size())));
  }
}

void Verifier::Update(Stream& stream, absl::Span<const std::byte> bytes) {
  if (stream.hasher == nullptr) {
    stream.hasher = source::MakeHasher(stream.sum->kind);
  }
  stream.hasher->Update(bytes);
  stream.rest.begin += bytes.size();
  if (stream.rest.empty()) {
    stream.sum->values[stream.part] = stream.hasher->Finish();
    stream.hasher.reset();
  }
}

void Verifier::Start(Arrivals& arrivals, const std::byte* segment, Cancellation& transfer,
                     std::function<void()> on_progress) {
  arrivals_ = &arrivals;
  segment_ = segment;
  transfer_ = &transfer;
  // All sums of a file go on side by side: none waits for bytes that another one lets go of.
  const size_t threads = std::min(std::max(kMostThreads, MostSums()), streams_.size());
  queue_.Open(
      streams_.size(), threads,
      [this](size_t i) { return FilePosition{streams_[i].sum->file, streams_[i].rest.begin}; },
      std::move(on_progress));
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] { Work(i); });
  }
}

size_t Verifier::MostSums() const {
  size_t most = 0;
  for (auto sum = sums_.begin(); sum != sums_.end();) {
    const auto next = sums_.upper_bound(sum->first);
    most = std::max(most, static_cast<size_t>(std::distance(sum, next)));
    sum = next;
  }
  return most;
}

absl::Status Verifier::Finish() {
  Join();
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(mismatch_);
  }
  return transfer_->status();
}

std::vector<Verified> Verifier::Proof() const {
  std::vector<Verified> proof;
  proof.reserve(expected_.size());
  for (const Expected& one : expected_) {
    proof.push_back({.file = one.file,
                     .kind = one.checksum.kind,
                     .value = one.checksum.value,
                     .parts = static_cast<uint32_t>(one.checksum.part_sizes.size()),
                     .by = one.by});
  }
  return proof;
}

void Verifier::Work(size_t thread) {
  while (const std::optional<size_t> i = queue_.Take(thread)) {
    Stream& stream = streams_[*i];
    if (!Hash(thread, stream)) {
      return;
    }
    Sum& sum = *stream.sum;
    if (sum.parts_left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      Compare(sum);
    }
  }
}

bool Verifier::Hash(size_t thread, Stream& stream) {
  if (stream.rest.empty() && stream.sum->values[stream.part].empty()) {
    Update(stream, {});
  }
  while (!stream.rest.empty()) {
    const uint64_t begin = stream.rest.begin;
    const Extent* const chunk = arrivals_->Await(stream.sum->file, begin);
    if (chunk == nullptr) {
      return false;
    }
    const uint64_t size = std::min({stream.rest.size(), chunk->bytes.end - begin, kStepBytes});
    Update(stream, {segment_ + chunk->offset + (begin - chunk->bytes.begin), size});
    queue_.Advance(thread, {stream.sum->file, stream.rest.begin});
  }
  return true;
}

void Verifier::Compare(const Sum& sum) {
  const std::string value = sum.part_sizes.empty()
                                ? sum.values.front()
                                : source::HashOf(sum.kind, absl::StrJoin(sum.values, ""));
  for (const Expected* expected : sum.expected) {
    if (expected->checksum.value == value) {
      continue;
    }
    const bool doubt =
        part_sizes_ == source::Source::PartSizes::kInferred && expected->checksum.composite();
    if (!doubt) {
      certain_ = true;
    }
    if (expected->by == Authority::kStore) {
      damaged_ = true;
    }
    const absl::Status mismatch = Mismatch(files_[sum.file], *expected, value);
    {
      absl::MutexLock lock(&mutex_);
      mismatch_.Update(mismatch);
    }
    if (!doubt) {
      transfer_->Cancel(mismatch);
    }
    return;
  }
}

void Verifier::Join() {
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

}  // namespace weightd::pipeline
