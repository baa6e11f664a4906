#include "daemon/source/s3/s3_upload.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/source/checksum.h"
#include "daemon/source/http/http_sender.h"
#include "daemon/source/s3/s3_indexes.h"
#include "daemon/source/s3/s3_lanes.h"
#include "daemon/source/s3/s3_object_upload.h"
#include "daemon/source/s3/s3_objects.h"

namespace weightd::source {
namespace {

using Role = FileToUpload::Role;

// An index of a file that is nowhere.
constexpr absl::string_view kNotice =
    R"({"metadata":{},"weight_map":{"none":"this-model-is-being-pushed.safetensors"}})";

struct Item {
  const FileToUpload* file = nullptr;
  std::unique_ptr<ObjectUpload> upload;
  bool was_there = false;
  // Of an index: whether its readers have to be kept out until it is there.
  bool needs_notice = false;

  bool SendsWeights() const { return file->role == Role::kWeights && !was_there; }
};

struct ItemPart {
  Item* item;
  size_t index;
};

bool CuredByRepetition(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kSourceUnavailable || reason == Reason::kDeadline;
}

// The store's errors don't know the file.
absl::Status OfFile(const Item& item, const absl::Status& status) {
  return absl::StrContains(status.message(), item.file->path) ? status
                                                              : Annotate(status, item.file->path);
}

class Uploader {
 public:
  Uploader(const StoredIndexes& stored, const S3UploadOptions& options,
           absl::FunctionRef<void(const UploadProgress&)> report)
      : stored_(stored),
        report_(report),
        lanes_({.location = options.location, .credentials = options.credentials}, options.http) {}

  absl::Status Add(const FileToUpload& file, uint64_t part_bytes) {
    ASSIGN_OR_RETURN(LocalFile local, LocalFile::At(file.path));
    total_ += local.size();
    Item item;
    item.file = &file;
    ASSIGN_OR_RETURN(item.upload, ObjectUpload::Make(std::move(local), file.object, part_bytes));
    items_.push_back(std::move(item));
    return absl::OkStatus();
  }

  absl::Status Run(Cancellation& cancellation) {
    const Cancellation::Registration registration = cancellation.OnCancel(
        [this] { stop_.Cancel(Error(Reason::kCancelled, "interrupted", "push again to go on")); });
    absl::Status status = Upload();
    return status.ok() ? status : CleanUp(std::move(status));
  }

  std::vector<UploadedFile> Results() const {
    std::vector<UploadedFile> results;
    results.reserve(items_.size());
    for (const Item& item : items_) {
      results.push_back({.path = item.file->path,
                         .object = item.file->object,
                         .bytes = item.upload->file().size(),
                         .bytes_sent = item.upload->bytes_sent(),
                         .was_there = item.was_there});
    }
    return results;
  }

 private:
  absl::Status Upload() {
    RETURN_IF_ERROR(LookAround());
    RETURN_IF_ERROR(Compare());
    RETURN_IF_ERROR(MindIndexes());
    RETURN_IF_ERROR(Send());
    RETURN_IF_ERROR(PutNotice());
    RETURN_IF_ERROR(Finish([](Role role) { return role != Role::kIndex; }));
    RETURN_IF_ERROR(CheckWeights());
    return Finish([](Role role) { return role == Role::kIndex; });
  }

  absl::Status LookAround() {
    RETURN_IF_ERROR(ForEach(stored_.must_be_absent.size(), [this](size_t i, S3Lane& lane) {
      const Uri& uri = stored_.must_be_absent[i];
      const auto facts = HeadObject(lane.client, uri, stop_);
      if (!facts.ok()) {
        return SaysNothing(facts.status()) ? absl::OkStatus() : facts.status();
      }
      return facts->has_value()
                 ? Error(Reason::kNotAllowed,
                         absl::StrCat(uri.Redacted(), " is of another model, and would be read"),
                         "push to another folder, or remove it")
                 : absl::OkStatus();
    }));
    return ForEachItem(
        [this](Item& item, S3Lane& lane) { return item.upload->Survey(lane.client, stop_); });
  }

  // Which objects are there already.
  absl::Status Compare() {
    std::vector<ItemPart> parts =
        PartsOf([](const Item& item) { return item.upload->MayBeThere(); });
    RETURN_IF_ERROR(ForEach(parts.size(), [&](size_t i, S3Lane&) {
      return parts[i].item->upload->ComparePart(parts[i].index, stop_);
    }));
    for (Item& item : items_) {
      item.was_there = item.upload->IsThere();
    }
    return absl::OkStatus();
  }

  // Whom the weights that will be sent concern.
  absl::Status MindIndexes() {
    if (std::any_of(items_.begin(), items_.end(),
                    [](const Item& item) { return item.SendsWeights(); })) {
      RETURN_IF_ERROR(ForEach(stored_.others.size(), [this](size_t i, S3Lane& lane) {
        return CheckOther(stored_.others[i], lane.client);
      }));
      RETURN_IF_ERROR(ForEachItem([this](Item& item, S3Lane& lane) {
        return item.file->role == Role::kIndex ? MindOwn(item, lane.client) : absl::OkStatus();
      }));
    }
    for (Item& item : items_) {
      item.was_there = item.was_there && !item.needs_notice;
      done_ += item.was_there ? item.upload->file().size() : 0;
    }
    return absl::OkStatus();
  }

  absl::Status CheckOther(const Uri& index, S3Client& client) {
    ASSIGN_OR_RETURN(const StoredNames there, NamesIn(index, stored_, client, stop_));
    const IndexedObjects indexed(there.names);
    const auto found = std::find_if(items_.begin(), items_.end(), [&indexed](const Item& item) {
      return item.SendsWeights() && indexed.Contains(item.file->object);
    });
    return found == items_.end()
               ? absl::OkStatus()
               : Error(Reason::kNotAllowed,
                       absl::StrCat(found->file->path, ": ", index.Redacted(), " names ",
                                    found->file->object.Redacted(),
                                    ", and its readers could take it together with old weights"),
                       "push the whole folder of that index, or push to another folder");
  }

  absl::Status MindOwn(Item& index, S3Client& client) {
    IndexedObjects indexed(index.file->names);
    const bool is_first = index.upload->IsAbsent();
    StoredNames before;
    if (!is_first && !index.was_there) {
      ASSIGN_OR_RETURN(before, NamesIn(index.file->object, stored_, client, stop_));
      indexed.Add(before.names);
    }
    if (is_first || !before.known) {
      indexed.AddAllBelow(index.file->object);
    }
    index.needs_notice = CouldBeMixed(indexed, Weights(), is_first);
    return absl::OkStatus();
  }

  std::vector<PushedWeights> Weights() const {
    std::vector<PushedWeights> weights;
    for (const Item& item : items_) {
      if (item.file->role == Role::kWeights) {
        weights.push_back({.object = item.file->object,
                           .are_sent = !item.was_there,
                           .replace_others = !item.was_there && !item.upload->IsAbsent()});
      }
    }
    return weights;
  }

  absl::Status Send() {
    sending_ = true;
    RETURN_IF_ERROR(ForEachItem([this](Item& item, S3Lane& lane) {
      return item.was_there ? absl::OkStatus() : item.upload->Begin(lane.client, stop_);
    }));
    std::vector<ItemPart> parts =
        PartsOf([](const Item& item) { return !item.was_there && item.upload->parts() > 1; });
    return ForEach(parts.size(), [&](size_t i, S3Lane& lane) {
      ObjectUpload& upload = *parts[i].item->upload;
      const absl::Status status = upload.SendPart(parts[i].index, lane.client, lane.sent, stop_);
      lane.sent = 0;
      done_ += status.ok() ? upload.PartBytes(parts[i].index) : 0;
      return OfFile(*parts[i].item, status);
    });
  }

  // Where the index will be: readers that come meanwhile fail, and are told why.
  absl::Status PutNotice() {
    return ForEachItem([this](Item& item, S3Lane& lane) {
      if (!item.needs_notice) {
        return absl::OkStatus();
      }
      const absl::Status status = PutObject(lane.client, item.file->object, BodyOf(kNotice),
                                            HashOf(ChecksumKind::kSha256, kNotice), stop_)
                                      .status();
      // It may be there although its answer was lost.
      has_notice_ = has_notice_ || !SaysNothing(status);
      return status;
    });
  }

  absl::Status Finish(bool (*takes)(Role role)) {
    return ForEachItem([this, takes](Item& item, S3Lane& lane) {
      if (item.was_there || !takes(item.file->role)) {
        return absl::OkStatus();
      }
      const absl::Status status = item.upload->Finish(lane.client, stop_);
      done_ += status.ok() && item.upload->parts() == 1 ? item.upload->file().size() : 0;
      return status;
    });
  }

  // Before an index says that they are there: another push may have replaced some.
  absl::Status CheckWeights() {
    const bool sends_index = std::any_of(items_.begin(), items_.end(), [](const Item& item) {
      return item.file->role == Role::kIndex && !item.was_there;
    });
    return ForEachItem([this, sends_index](Item& item, S3Lane& lane) {
      return sends_index && item.file->role == Role::kWeights
                 ? item.upload->CheckStored(lane.client, stop_)
                 : absl::OkStatus();
    });
  }

  // What an error leaves to be said or removed.
  absl::Status CleanUp(absl::Status status) {
    if (has_notice_) {
      status = Error(ReasonOf(status),
                     absl::StrCat(status.message(),
                                  "; the index in the store says that the model is being pushed, "
                                  "and readers fail until it is pushed again"),
                     HintOf(status));
    }
    const bool any = std::any_of(items_.begin(), items_.end(),
                                 [](const Item& item) { return item.upload->HasBegun(); });
    if (any && CuredByRepetition(status)) {
      return Error(ReasonOf(status), status.message(),
                   absl::StrCat(HintOf(status), "; what was sent is kept, push again to go on"));
    }
    // Also for one who was interrupted; a second signal ends us.
    Cancellation never;
    absl::Status aborted;
    for (Item& item : items_) {
      aborted.Update(item.upload->Abort(lanes_.front().client, never));
    }
    return aborted.ok() ? status
                        : Error(ReasonOf(status),
                                absl::StrCat(status.message(),
                                             "; and parts stay in the store: ", aborted.message()),
                                HintOf(status));
  }

  std::vector<ItemPart> PartsOf(absl::FunctionRef<bool(const Item&)> wanted) {
    std::vector<ItemPart> parts;
    for (Item& item : items_) {
      for (size_t i = 0; wanted(item) && i < item.upload->parts(); ++i) {
        parts.push_back({&item, i});
      }
    }
    return parts;
  }

  absl::Status ForEachItem(absl::FunctionRef<absl::Status(Item& item, S3Lane& lane)> task) {
    return ForEach(items_.size(), [&](size_t i, S3Lane& lane) {
      return OfFile(items_[i], task(items_[i], lane));
    });
  }

  absl::Status ForEach(size_t count, const S3Lanes::Task& task) {
    return lanes_.ForEach(count, task, [this] { Report(); }, stop_);
  }

  // Bytes that have to go out once more are counted once.
  void Report() {
    reported_ = std::max(reported_, std::min(done_ + lanes_.bytes_in_flight(), total_));
    report_({.sending = sending_, .bytes_done = reported_, .bytes_total = total_});
  }

  const StoredIndexes& stored_;
  const absl::FunctionRef<void(const UploadProgress&)> report_;
  S3Lanes lanes_;
  std::vector<Item> items_;
  std::atomic<bool> has_notice_ = false;
  // Stops everything but the cleaning up, with the first reason.
  Cancellation stop_;
  // For Report().
  uint64_t total_ = 0;
  uint64_t reported_ = 0;
  bool sending_ = false;
  std::atomic<uint64_t> done_ = 0;
};

absl::Status CheckOptions(const S3UploadOptions& options, Cancellation& cancellation) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) {
    return Error(Reason::kInternal, "libcurl can't be initialised");
  }
  if (options.http.connections < 1 || options.http.attempts < 1 || options.part_bytes < 1 ||
      options.http.stall_timeout < absl::Seconds(1)) {
    return Error(Reason::kInvalidArgument,
                 "connections, attempts and part size of an upload must be positive, and its stall "
                 "timeout at least a second");
  }
  ASSIGN_OR_RETURN(const std::optional<Credentials> credentials,
                   options.credentials->Get(cancellation));
  return credentials.has_value()
             ? absl::OkStatus()
             : Error(Reason::kSourceDenied, "there are no credentials to upload with",
                     "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write a profile into "
                     "~/.aws/credentials");
}

}  // namespace

absl::Status TryUpload(const Uri& object, const S3UploadOptions& options,
                       Cancellation& cancellation) {
  RETURN_IF_ERROR(CheckOptions(options, cancellation));
  S3Lanes lanes({.location = options.location, .credentials = options.credentials}, options.http);
  S3Client& client = lanes.front().client;
  ASSIGN_OR_RETURN(const UnfinishedUpload upload, CreateUpload(client, object, cancellation));
  Cancellation never;
  const absl::Status aborted = AbortUpload(client, object, upload, never);
  // An upload that we may not give up stays, without parts.
  return SaysNothing(aborted) ? absl::OkStatus() : aborted;
}

absl::StatusOr<std::vector<UploadedFile>> UploadFiles(
    const std::vector<FileToUpload>& files, const StoredIndexes& stored,
    const S3UploadOptions& options, absl::FunctionRef<void(const UploadProgress&)> report,
    Cancellation& cancellation) {
  RETURN_IF_ERROR(CheckOptions(options, cancellation));
  Uploader uploader(stored, options, report);
  for (const FileToUpload& file : files) {
    RETURN_IF_ERROR(uploader.Add(file, options.part_bytes));
  }
  RETURN_IF_ERROR(uploader.Run(cancellation));
  return uploader.Results();
}

}  // namespace weightd::source
