#include "daemon/source/s3/s3_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "common/status.h"

namespace weightd::source {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr absl::string_view kObject =
    "<Contents><Key>m</Key><Size>1</Size><ETag>\"e\"</ETag></Contents>";
constexpr absl::string_view kWhole = "<IsTruncated>false</IsTruncated>";

std::string Listing(absl::string_view inside) {
  return absl::StrCat("<ListBucketResult>", inside, "</ListBucketResult>");
}

// With one object, whose elements are these.
std::string WithObject(absl::string_view inside) {
  return Listing(absl::StrCat(kWhole, "<Contents>", inside, "</Contents>"));
}

// With one object of this key, as it is written in XML.
std::string WithKey(absl::string_view key) {
  return WithObject(absl::StrCat("<Key>", key, "</Key><Size>0</Size><ETag>e</ETag>"));
}

void ExpectRefused(absl::string_view document) {
  SCOPED_TRACE(document.substr(0, 400));
  const absl::Status status = ParseS3Listing(document).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol) << status;
  EXPECT_NE(HintOf(status), "");
}

std::string KeyOf(absl::string_view document) {
  const auto listing = ParseS3Listing(document);
  EXPECT_TRUE(listing.ok()) << listing.status();
  return listing.ok() && listing->objects.size() == 1 ? listing->objects[0].key : "?";
}

TEST(S3Listing, ReadsWhatServersAnswer) {
  const auto listing = ParseS3Listing(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>models</Name><Prefix>llama/</Prefix><Delimiter>/</Delimiter>
  <KeyCount>3</KeyCount><MaxKeys>3</MaxKeys><EncodingType>url</EncodingType>
  <IsTruncated>true</IsTruncated>
  <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>
  <Contents>
    <Key>llama/config.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
    <ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><Size>651</Size>
    <Owner><ID>75aa57f09aa0c8caeab4f8c24e99d10f</ID><DisplayName>x</DisplayName></Owner>
    <StorageClass>STANDARD</StorageClass>
  </Contents>
  <Contents>
    <Key>llama/a+b%2Bc%C3%BC.safetensors</Key><Size>9223372036854775807</Size>
    <ETag>"9b2cf535f27731c974343645a3985328-5"</ETag>
  </Contents>
  <CommonPrefixes><Prefix>llama/original/</Prefix></CommonPrefixes>
</ListBucketResult>
)");
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_THAT(
      listing->objects,
      ElementsAre(S3Object{"llama/config.json", 651, "\"70ee1738b6b21e2c8a43f3a5ab0eee71\""},
                  S3Object{"llama/a b+c\xc3\xbc.safetensors", 9223372036854775807U,
                           "\"9b2cf535f27731c974343645a3985328-5\""}));
  EXPECT_THAT(listing->common_prefixes, ElementsAre("llama/original/"));
  EXPECT_TRUE(listing->IsTruncated());
  EXPECT_EQ(listing->continuation_token, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
}

TEST(S3Listing, MayBeEmpty) {
  const auto listing = ParseS3Listing(Listing(kWhole));
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_THAT(listing->objects, IsEmpty());
  EXPECT_THAT(listing->common_prefixes, IsEmpty());
  EXPECT_FALSE(listing->IsTruncated());
}

TEST(S3Listing, DecodesKeysOnlyIfTheyAreEncoded) {
  EXPECT_EQ(KeyOf(WithKey("a+b%20&amp;&#x1234;&#65;<![CDATA[<]]>")),
            "a+b%20&\xe1\x88\xb4"
            "A<");
  const std::string encoding = "<EncodingType>url</EncodingType>";
  EXPECT_EQ(KeyOf(Listing(absl::StrCat(kWhole, encoding, kObject))), "m");
  // Also if the server says so last.
  const std::string object = absl::StrReplaceAll(kObject, {{">m<", ">a+b%2B<"}});
  EXPECT_EQ(KeyOf(Listing(absl::StrCat(kWhole, object, encoding))), "a b+");
}

TEST(S3Listing, RefusesUnknownEncodingsAndMalformedEscapes) {
  ExpectRefused(Listing(absl::StrCat(kWhole, "<EncodingType>gzip</EncodingType>")));
  ExpectRefused(Listing(absl::StrCat(kWhole, "<EncodingType></EncodingType>")));
  ExpectRefused(absl::StrReplaceAll(
      WithKey("a%4"), {{kWhole, absl::StrCat(kWhole, "<EncodingType>url</EncodingType>")}}));
}

TEST(S3Listing, PassesOverWhatItDoesNotKnow) {
  EXPECT_EQ(KeyOf(Listing(absl::StrCat(
                "<!-- a comment --><New a='b'><Key>x</Key><Contents><Key>y</Key></Contents></New>",
                kWhole, kObject, "<IsTruncatedToo>true</IsTruncatedToo>"))),
            "m");
}

TEST(S3Listing, RefusesDocumentTypesAndEntities) {
  ExpectRefused(absl::StrCat("<!DOCTYPE ListBucketResult>", Listing(kWhole)));
  ExpectRefused(absl::StrCat("<!DOCTYPE a [<!ENTITY b 'c'>]>", WithKey("&b;")));
  ExpectRefused(absl::StrCat("<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/x.dtd'>", WithKey("&b;")));
  ExpectRefused(
      absl::StrCat("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>", WithKey("&b;")));
  ExpectRefused(WithKey("&b;"));
  ExpectRefused(WithKey("&#0;"));
  ExpectRefused(WithKey("&#xD800;"));
}

TEST(S3Listing, RefusesOtherEncodingsThanUtf8) {
  ExpectRefused(absl::StrCat("<?xml version='1.0' encoding='ISO-8859-1'?>", Listing(kWhole)));
  ExpectRefused(WithKey("\xff"));
  ExpectRefused(WithKey("\xed\xa0\x80"));
  std::string utf16 = "\xff\xfe";
  for (const char c : Listing(kWhole)) {
    utf16.append({c, '\0'});
  }
  ExpectRefused(utf16);
  ExpectRefused(utf16.substr(2));
  ExpectRefused(absl::StrReplaceAll(
      WithKey("%FF"), {{kWhole, absl::StrCat(kWhole, "<EncodingType>url</EncodingType>")}}));
}

TEST(S3Listing, RefusesWhatIsNoXml) {
  ExpectRefused("");
  ExpectRefused("not found");
  ExpectRefused("{\"Contents\": []}");
  ExpectRefused(Listing("<IsTruncated>false"));
  ExpectRefused(absl::StrCat(Listing(kWhole), "<a/>"));
  ExpectRefused(absl::StrCat(Listing(kWhole), std::string(1, '\0')));
}

TEST(S3Listing, RefusesOtherDocuments) {
  ExpectRefused("<Error><Code>NoSuchBucket</Code></Error>");
  ExpectRefused("<html><body>proxy login</body></html>");
  ExpectRefused(absl::StrCat("<Wrapped>", Listing(kWhole), "</Wrapped>"));
}

TEST(S3Listing, RefusesFieldsThatComeTwice) {
  ExpectRefused(Listing(absl::StrCat(kWhole, kWhole)));
  ExpectRefused(WithObject("<Key>a</Key><Key>a</Key><Size>1</Size><ETag>e</ETag>"));
  ExpectRefused(WithObject("<Key>a</Key><Size>1</Size><Size>1</Size><ETag>e</ETag>"));
  ExpectRefused(Listing(absl::StrCat(
      kWhole, "<CommonPrefixes><Prefix>a</Prefix><Prefix>b</Prefix></CommonPrefixes>")));
}

TEST(S3Listing, RefusesObjectsThatLackAField) {
  ExpectRefused(WithObject("<Size>1</Size><ETag>e</ETag>"));
  ExpectRefused(WithObject("<Key>a</Key><ETag>e</ETag>"));
  ExpectRefused(WithObject("<Key>a</Key><Size>1</Size>"));
  ExpectRefused(Listing(absl::StrCat(kWhole, "<CommonPrefixes></CommonPrefixes>")));
  // What the object before it had doesn't count.
  ExpectRefused(Listing(absl::StrCat(kWhole, kObject, "<Contents><Key>b</Key></Contents>")));
}

TEST(S3Listing, RefusesMalformedFields) {
  for (const absl::string_view size : {"", "-1", "+1", " 1", "1e3", "0x1", "9223372036854775808",
                                       "18446744073709551616", "99999999999999999999"}) {
    ExpectRefused(WithObject(absl::StrCat("<Key>a</Key><Size>", size, "</Size><ETag>e</ETag>")));
  }
  for (const absl::string_view etag : {"", "a b", "a&#10;b", "&#252;"}) {
    ExpectRefused(WithObject(absl::StrCat("<Key>a</Key><Size>1</Size><ETag>", etag, "</ETag>")));
  }
  ExpectRefused(Listing("<IsTruncated>maybe</IsTruncated>"));
  ExpectRefused(Listing(""));
}

TEST(S3Listing, RefusesATruncatedListingWithoutTokenAndATokenWithoutNeed) {
  const std::string token = "<NextContinuationToken>t</NextContinuationToken>";
  ExpectRefused(Listing("<IsTruncated>true</IsTruncated>"));
  ExpectRefused(Listing("<IsTruncated>true</IsTruncated><NextContinuationToken/>"));
  ExpectRefused(Listing(absl::StrCat(kWhole, token)));
  EXPECT_TRUE(ParseS3Listing(Listing(absl::StrCat("<IsTruncated>true</IsTruncated>", token))).ok());
}

TEST(S3Listing, RefusesWrongNesting) {
  ExpectRefused(WithKey("a<b/>"));
  ExpectRefused(WithKey("<b>a</b>"));
  ExpectRefused(WithKey("<b/>a"));
  ExpectRefused(Listing(absl::StrCat("text", kWhole)));
  ExpectRefused(Listing(absl::StrCat(kWhole, "text")));
  ExpectRefused(
      Listing(absl::StrCat(kWhole, "<NextContinuationToken><a/></NextContinuationToken>")));
}

TEST(S3Listing, BoundsKeysNamesTextsDepthAndSize) {
  EXPECT_EQ(KeyOf(WithKey(std::string(1024, 'a'))).size(), 1024);
  ExpectRefused(WithKey(std::string(1025, 'a')));
  ExpectRefused(WithKey(""));
  const auto deep = [](int depth) {
    std::string begin;
    std::string end;
    for (int i = 0; i < depth; ++i) {
      begin += "<a>";
      end += "</a>";
    }
    return Listing(absl::StrCat(kWhole, begin, end));
  };
  EXPECT_TRUE(ParseS3Listing(deep(15)).ok());
  ExpectRefused(deep(16));
  ExpectRefused(deep(100'000));
  ExpectRefused(Listing(absl::StrCat(kWhole, "<", std::string(129, 'a'), "/>")));
  ExpectRefused(absl::StrCat("<", std::string(129, 'a'), "/>"));
  ExpectRefused(Listing(absl::StrCat(kWhole, "<a>", std::string((16 << 10) + 1, 'a'), "</a>")));
  const std::string padding(kMaxListingBytes - Listing(kWhole).size(), ' ');
  EXPECT_TRUE(ParseS3Listing(absl::StrCat(Listing(kWhole), padding)).ok());
  ExpectRefused(absl::StrCat(Listing(kWhole), padding, " "));
}

TEST(S3Listing, ErrorsHoldNothingOfTheAnswer) {
  for (const std::string& document :
       {WithKey("secret<b/>"), Listing("<IsTruncated>secret</IsTruncated>"),
        std::string("<secret/>"), WithObject("<Key>secret</Key><Size>secret</Size><ETag>e</ETag>"),
        WithKey("&secret;")}) {
    EXPECT_THAT(ParseS3Listing(document).status().ToString(), Not(HasSubstr("secret")));
  }
}

TEST(S3Error, ReadsCodeRegionAndEndpoint) {
  const auto error = ParseS3Error(R"(<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>PermanentRedirect</Code><Message>Ask <![CDATA[<there>]]></Message>
<Endpoint>models.s3.eu-west-1.amazonaws.com</Endpoint><Bucket>models</Bucket>
<Region>eu-west-1</Region><RequestId>1</RequestId></Error>)");
  ASSERT_TRUE(error.ok()) << error.status();
  EXPECT_EQ(*error,
            (S3Error{"PermanentRedirect", "eu-west-1", "models.s3.eu-west-1.amazonaws.com"}));
}

TEST(S3Error, NeedsACodeOnly) {
  const auto error = ParseS3Error("<Error><Code>SlowDown</Code></Error>");
  ASSERT_TRUE(error.ok()) << error.status();
  EXPECT_EQ(*error, (S3Error{"SlowDown", "", ""}));
}

TEST(S3Error, RefusesWhatIsNone) {
  for (const std::string& document :
       {std::string(""), std::string("<html/>"), std::string("<Error/>"),
        std::string("<Error><Code/></Error>"), Listing(kWhole),
        std::string("<Error><Code>a b</Code></Error>"),
        std::string("<Error><Code>A</Code><Code>A</Code></Error>"),
        std::string("<Error><Code>A</Code><Region>x/../y</Region></Error>"),
        std::string("<Error><Code>A</Code><Endpoint>user@host/path</Endpoint></Error>"),
        absl::StrCat("<Error><Code>", std::string(65, 'A'), "</Code></Error>"),
        absl::StrCat("<Error><Code>A</Code></Error>", std::string(kMaxS3ErrorBytes, ' '))}) {
    SCOPED_TRACE(document.substr(0, 200));
    EXPECT_EQ(ReasonOf(ParseS3Error(document).status()), Reason::kSourceProtocol);
  }
}

}  // namespace
}  // namespace weightd::source
