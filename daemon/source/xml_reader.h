#ifndef WEIGHTD_DAEMON_SOURCE_XML_READER_H_
#define WEIGHTD_DAEMON_SOURCE_XML_READER_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// XML as object stores answer it: elements that hold either elements or text. Pure.

namespace weightd::source {

// Takes the elements of a document in their order. `path` names an element and those around it:
// "ListBucketResult/Contents/Key". An error ends the reading. The views live for the call only.
class XmlElements {
 public:
  virtual ~XmlElements() = default;

  virtual absl::Status Begin(absl::string_view path) = 0;
  // `text` is what the element holds, empty if that is elements.
  virtual absl::Status End(absl::string_view path, absl::string_view text) = 0;
};

// Reads a whole document, with expat, which takes at worst thirteen times the document's size in
// memory. Refused besides what is no well-formed XML in UTF-8: document types (and with them every
// entity but the five predefined), other encodings, elements deeper than 16, names longer than 128
// bytes, text longer than 16 KiB, and text beside elements. Attributes, comments and processing
// instructions are passed over. Errors are kSourceProtocol and name a line, but nothing of what
// stands there; or they are what `elements` returned.
absl::Status ReadXml(absl::string_view document, XmlElements& elements);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_XML_READER_H_
