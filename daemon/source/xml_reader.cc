#include "daemon/source/xml_reader.h"

#include <expat.h>

#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"

namespace weightd::source {
namespace {

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxName = 128;
constexpr size_t kMaxText = 16 << 10;

// One reading: expat's callbacks, and what they have seen so far.
class Reading {
 public:
  explicit Reading(XmlElements& elements)
      : elements_(elements), parser_(XML_ParserCreate("UTF-8"), &XML_ParserFree) {
    if (parser_ == nullptr) {
      return;
    }
    XML_SetUserData(parser_.get(), this);
    XML_SetXmlDeclHandler(parser_.get(), OnDeclaration);
    XML_SetStartDoctypeDeclHandler(parser_.get(), OnDocumentType);
    XML_SetElementHandler(parser_.get(), OnBegin, OnEnd);
    XML_SetCharacterDataHandler(parser_.get(), OnText);
  }

  absl::Status Read(absl::string_view document) {
    if (parser_ == nullptr) {
      return Error(Reason::kHostMemoryShort, "no memory to read XML");
    }
    if (document.size() > size_t{std::numeric_limits<int>::max()}) {
      return Refusal("too large");
    }
    // expat goes by a byte order mark, and by zero bytes, before it goes by what it was told.
    if (FirstInvalidUtf8(document).has_value() || absl::StrContains(document, '\0')) {
      return Refusal("an encoding other than UTF-8");
    }
    const XML_Status read = XML_Parse(parser_.get(), document.data(),
                                      static_cast<int>(document.size()), /*isFinal=*/XML_TRUE);
    if (!status_.ok()) {
      return status_;
    }
    return read == XML_STATUS_OK ? absl::OkStatus()
                                 : Refusal(XML_ErrorString(XML_GetErrorCode(parser_.get())));
  }

 private:
  static Reading& Of(void* data) { return *static_cast<Reading*>(data); }

  static void OnDeclaration(void* data, const XML_Char* /*version*/, const XML_Char* encoding,
                            int /*standalone*/) {
    if (encoding != nullptr && !absl::EqualsIgnoreCase(encoding, "UTF-8")) {
      Of(data).Stop(Of(data).Refusal("an encoding other than UTF-8"));
    }
  }

  static void OnDocumentType(void* data, const XML_Char* /*name*/, const XML_Char* /*system_id*/,
                             const XML_Char* /*public_id*/, int /*has_internal_subset*/) {
    Of(data).Stop(Of(data).Refusal("a document type"));
  }

  static void OnBegin(void* data, const XML_Char* name, const XML_Char** /*attributes*/) {
    Of(data).Begin(name);
  }
  static void OnEnd(void* data, const XML_Char* /*name*/) { Of(data).End(); }
  static void OnText(void* data, const XML_Char* text, int size) {
    Of(data).AddText(absl::string_view(text, static_cast<size_t>(size)));
  }

  void Begin(absl::string_view name) {
    if (!status_.ok()) {
      return;
    }
    if (ends_.size() == kMaxDepth || name.size() > kMaxName) {
      return Stop(Refusal("elements too deep or names too long"));
    }
    if (!absl::StripAsciiWhitespace(text_).empty()) {
      return Stop(Refusal("text beside elements"));
    }
    text_.clear();
    holds_elements_ = false;
    ends_.push_back(path_.size());
    absl::StrAppend(&path_, path_.empty() ? "" : "/", name);
    Stop(elements_.Begin(path_));
  }

  void AddText(absl::string_view text) {
    if (!status_.ok()) {
      return;
    }
    if (holds_elements_) {
      text = absl::StripAsciiWhitespace(text);
    }
    if (holds_elements_ ? !text.empty() : text_.size() + text.size() > kMaxText) {
      return Stop(Refusal("text beside elements or too long"));
    }
    text_.append(text.data(), text.size());
  }

  void End() {
    if (!status_.ok()) {
      return;
    }
    Stop(elements_.End(path_, text_));
    text_.clear();
    holds_elements_ = true;
    path_.resize(ends_.back());
    ends_.pop_back();
  }

  // Nothing if `status` is OK. expat may still call back after it was stopped, for the end of an
  // empty element.
  void Stop(const absl::Status& status) {
    if (status_.ok() && !status.ok()) {
      status_ = status;
      XML_StopParser(parser_.get(), /*resumable=*/XML_FALSE);
    }
  }

  absl::Status Refusal(absl::string_view why) {
    return Error(Reason::kSourceProtocol,
                 absl::StrCat("not the XML of an object store: ", why, " (line ",
                              XML_GetCurrentLineNumber(parser_.get()), ")"),
                 "check that the endpoint speaks S3");
  }

  XmlElements& elements_;
  const std::unique_ptr<std::remove_pointer_t<XML_Parser>, decltype(&XML_ParserFree)> parser_;
  absl::Status status_;
  // The open elements, and where the path of each one's parent ends.
  std::string path_;
  std::vector<size_t> ends_;
  // Of the innermost open element.
  std::string text_;
  bool holds_elements_ = false;
};

}  // namespace

absl::Status ReadXml(absl::string_view document, XmlElements& elements) {
  return Reading(elements).Read(document);
}

}  // namespace weightd::source
