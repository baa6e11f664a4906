#include "daemon/source/s3/s3_multipart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {
namespace {

using testing::ElementsAre;

constexpr uint64_t kMiB = 1 << 20;

TEST(CutPartsTest, PartsAreOfOneSizeButTheLast) {
  EXPECT_THAT(*CutParts(25, 10),
              ElementsAre(ByteRange{0, 10}, ByteRange{10, 20}, ByteRange{20, 25}));
  EXPECT_THAT(*CutParts(20, 10), ElementsAre(ByteRange{0, 10}, ByteRange{10, 20}));
  EXPECT_THAT(*CutParts(10, 10), ElementsAre(ByteRange{0, 10}));
  EXPECT_THAT(*CutParts(0, 10), ElementsAre(ByteRange{0, 0}));
}

TEST(CutPartsTest, ThereAreNeverTooManyOrTooLargeOnes) {
  for (const uint64_t bytes : {16 * kMiB * kMostParts, 16 * kMiB * kMostParts + 1,
                               uint64_t{5} << 40, kLargestPart * kMostParts}) {
    const auto parts = *CutParts(bytes, 16 * kMiB);
    EXPECT_LE(parts.size(), kMostParts);
    EXPECT_GE(parts.front().size(), 16 * kMiB);
    EXPECT_LE(parts.front().size(), kLargestPart);
    EXPECT_EQ(parts.back().end, bytes);
  }
  EXPECT_EQ(CutParts(16 * kMiB * kMostParts, 16 * kMiB)->size(), kMostParts);
  EXPECT_EQ(ReasonOf(CutParts(kLargestPart * kMostParts + 1, kMiB).status()),
            Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(CutParts(~uint64_t{0}, kMiB).status()), Reason::kInvalidArgument);
}

std::string Created(const std::string& id) {
  return absl::StrCat("<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>", id,
                      "</UploadId></InitiateMultipartUploadResult>");
}

TEST(S3MultipartTest, ACreatedUploadHasAnId) {
  EXPECT_EQ(*ParseCreatedUpload(Created("2~a+b/c")), "2~a+b/c");
  for (const std::string& document :
       {Created(""), Created("a b"), Created(std::string(3000, 'x')),
        std::string("<InitiateMultipartUploadResult/>"), std::string("<Error/>"), std::string()}) {
    EXPECT_EQ(ReasonOf(ParseCreatedUpload(document).status()), Reason::kSourceProtocol) << document;
  }
}

std::string Uploads(const std::string& rest) {
  return absl::StrCat(
      "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", rest,
      "</ListMultipartUploadsResult>");
}

TEST(S3MultipartTest, AListOfUploads) {
  const auto listing = ParseUploadListing(Uploads(
      "<Bucket>b</Bucket><KeyMarker/><IsTruncated>true</IsTruncated>"
      "<NextKeyMarker>b</NextKeyMarker><NextUploadIdMarker>2~2</NextUploadIdMarker>"
      "<Upload><Key>a</Key><UploadId>1</UploadId><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>"
      "<Owner><ID>x</ID></Owner></Upload>"
      "<Upload><UploadId>2~2</UploadId><Key>b</Key></Upload>"));
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_THAT(listing->uploads,
              ElementsAre(UnfinishedUpload{"a", "1", "SHA256"}, UnfinishedUpload{"b", "2~2", ""}));
  EXPECT_EQ(listing->next, std::make_pair(std::string("b"), std::string("2~2")));
  EXPECT_EQ(ParseUploadListing(Uploads("<IsTruncated>false</IsTruncated>"))->next, std::nullopt);
}

TEST(S3MultipartTest, AListOfUploadsThatMakesNoSenseIsRefused) {
  const std::string end = "<IsTruncated>false</IsTruncated>";
  for (const std::string& rest :
       {std::string(), std::string("<IsTruncated>maybe</IsTruncated>"),
        std::string("<IsTruncated>true</IsTruncated>"), "<Upload><Key>a</Key></Upload>" + end,
        "<Upload><UploadId>1</UploadId></Upload>" + end,
        "<Upload><Key>a</Key><Key>b</Key><UploadId>1</UploadId></Upload>" + end,
        "<Upload><Key>a</Key><UploadId>a b</UploadId></Upload>" + end}) {
    EXPECT_EQ(ReasonOf(ParseUploadListing(Uploads(rest)).status()), Reason::kSourceProtocol)
        << rest;
  }
}

std::string Parts(const std::string& rest) {
  return absl::StrCat("<ListPartsResult>", rest, "</ListPartsResult>");
}

std::string Part(const std::string& number, const std::string& size, const std::string& more = "") {
  return absl::StrCat("<Part><PartNumber>", number, "</PartNumber><Size>", size,
                      "</Size><ETag>&quot;e&quot;</ETag>", more, "</Part>");
}

TEST(S3MultipartTest, AListOfParts) {
  const auto listing = ParsePartListing(
      Parts("<IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker>" +
            Part("2", "5") +
            Part("7", "0",
                 "<ChecksumSHA256>AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=</ChecksumSHA256>")));
  ASSERT_TRUE(listing.ok()) << listing.status();
  std::string sha256;
  for (char c = 0; c < 32; ++c) {
    sha256.push_back(c);
  }
  EXPECT_THAT(listing->parts,
              ElementsAre(StoredPart{2, 5, "\"e\"", ""}, StoredPart{7, 0, "\"e\"", sha256}));
  EXPECT_EQ(listing->next, 7u);
}

TEST(S3MultipartTest, AListOfPartsThatMakesNoSenseIsRefused) {
  const std::string end = "<IsTruncated>false</IsTruncated>";
  const std::string goes_on = "<IsTruncated>true</IsTruncated>";
  for (const std::string& rest :
       {std::string(), end + Part("0", "1"), end + Part("10001", "1"), end + Part("1", "-1"),
        end + Part("2", "1") + Part("1", "1"), end + Part("1", "1") + Part("1", "1"),
        end + Part("1", "1", "<ChecksumSHA256>AAAA</ChecksumSHA256>"), goes_on,
        goes_on + Part("3", "1") + "<NextPartNumberMarker>2</NextPartNumberMarker>",
        end + "<Part><PartNumber>1</PartNumber><Size>1</Size></Part>"}) {
    EXPECT_EQ(ReasonOf(ParsePartListing(Parts(rest)).status()), Reason::kSourceProtocol) << rest;
  }
}

TEST(S3MultipartTest, OnlyOneAnswerMeansCompletion) {
  const auto said = [](absl::string_view rest) {
    return ParseCompletion(
        absl::StrCat("<CompleteMultipartUploadResult>", rest, "</CompleteMultipartUploadResult>"));
  };
  EXPECT_EQ(said("<ETag>&quot;aa-1&quot;</ETag>")->etag, "\"aa-1\"");
  EXPECT_EQ(said("<ETag/>")->etag, "");
  const std::string zeros = absl::StrCat(std::string(43, 'A'), "=-3");
  EXPECT_EQ(said(absl::StrCat("<ChecksumSHA256>", zeros, "</ChecksumSHA256>"))->sha256->parts, 3u);
  EXPECT_EQ(said("<ChecksumSHA256>soon</ChecksumSHA256>")->sha256, std::nullopt);
  EXPECT_FALSE(ParseCompletion("<Error><Code>InternalError</Code></Error>").ok());
  EXPECT_FALSE(ParseCompletion("<CompleteMultipartUploadResult>").ok());
  EXPECT_FALSE(ParseCompletion("").ok());
}

TEST(S3MultipartTest, ACompletionNamesItsParts) {
  const StoredPart parts[] = {{1, 5, "\"aa\"", std::string(32, '\0')}, {2, 5, "\"bb\"", ""}};
  EXPECT_EQ(CompletionOf(parts, false),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            "<Part><ETag>aa</ETag><PartNumber>1</PartNumber></Part>"
            "<Part><ETag>bb</ETag><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>");
  EXPECT_NE(CompletionOf(parts, true)
                .find("<Part><ChecksumSHA256>AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
                      "</ChecksumSHA256><ETag>aa</ETag><PartNumber>1</PartNumber></Part>"),
            std::string::npos);
}

TEST(S3MultipartTest, AnEtagIsTextInACompletion) {
  const StoredPart parts[] = {{1, 5, "\"</ETag>&\"", ""}};
  EXPECT_NE(CompletionOf(parts, false).find("<ETag>&lt;/ETag&gt;&amp;</ETag>"), std::string::npos);
}

TEST(S3MultipartTest, AnEtagOfParts) {
  // md5sum of "" and of "x"; of both digests, one after another.
  const StoredPart empty = {1, 0, "\"d41d8cd98f00b204e9800998ecf8427e\"", ""};
  const StoredPart x = {2, 1, "\"9dd4e461268c8034f5c8564e155c67a6\"", ""};
  const StoredPart both[] = {empty, x};
  EXPECT_EQ(EtagOf(both), "\"d51f9af2410063de2829bf49ea3b18d8-2\"");
  const StoredPart encrypted[] = {empty, {2, 1, "\"opaque\"", ""}};
  EXPECT_EQ(EtagOf(encrypted), std::nullopt);
}

}  // namespace
}  // namespace weightd::source
