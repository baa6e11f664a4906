// Lies of S3 stores: listings, errors, regions.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/daemon/source/lying_server/lies.h"

namespace weightd::source {
namespace {

void ListingCut(WireAnswer& answer, Dice& dice) {
  answer.SetBody(answer.body.substr(0, dice.Below(answer.body.size())));
}

// Entities that grow, that fetch, or that lead in a circle; elements without an end.
void ListingBomb(WireAnswer& answer, Dice& dice) {
  std::string entities;
  const int depth = 2 + static_cast<int>(dice.Below(30));
  for (int i = 1; i < depth; ++i) {
    absl::StrAppend(&entities, "<!ENTITY e", i, " \"&e", i - 1, ";&e", i - 1, ";\">");
  }
  const std::string bomb = absl::StrCat(
      "<!DOCTYPE bomb [<!ENTITY e0 \"",
      dice.OneOf<std::string>({"boom", "&e1;", std::string(10'000, 'b')}), "\">", entities, "]>");
  const std::string fetching = "<!DOCTYPE x [<!ENTITY e1 SYSTEM \"file:///etc/passwd\">]>";
  std::string deep;
  for (uint64_t i = 0, levels = 17 + dice.Below(50'000); i < levels; ++i) {
    absl::StrAppend(&deep, "<a>");
  }
  const std::string root = "<ListBucketResult>";
  const size_t at = answer.body.find(root);
  std::string text = answer.body.substr(at);
  const std::string long_name = std::string(200 + dice.Below(100'000), 'n');
  answer.SetBody(dice.OneOf<std::string>(
      {absl::StrCat(bomb, absl::StrReplaceAll(text, {{"bucket", "&e1;"}})),
       absl::StrCat(fetching, absl::StrReplaceAll(text, {{"bucket", "&e1;"}})),
       absl::StrCat(root, deep), absl::StrCat(root, "<", long_name, "/>", text.substr(root.size())),
       absl::StrCat(root, "<Name>", std::string(20'000 + dice.Below(100'000), 'x'), "</Name>",
                    text.substr(root.size())),
       absl::StrReplaceAll(text, {{"bucket", "&undefined;"}}), absl::StrCat(text, text),
       std::string(9 << 20, ' ') + text}));
}

// No XML, or that of something else.
void ListingOfAnotherKind(WireAnswer& answer, Dice& dice) {
  answer.SetBody(dice.OneOf<std::string>(
      {"", "{\"keys\": []}", "<html><body>hello</body></html>", dice.Garbage(dice.Below(5000)),
       "<ListBucketResult/>", "<ListBucketResult></ListBucketResult>",
       "<ListAllMyBucketsResult></ListAllMyBucketsResult>",
       absl::StrReplaceAll(answer.body, {{"UTF-8", "UTF-16"}}),
       absl::StrReplaceAll(answer.body, {{"UTF-8", "ISO-8859-1"}}),
       absl::StrReplaceAll(answer.body, {{"false", "maybe"}}),
       absl::StrReplaceAll(answer.body, {{"</Key>", "</Key><Key>m/other</Key>"}}),
       absl::StrReplaceAll(answer.body, {{"m/", "\xff\xfe/"}})}));
}

void WrongLengthInList(WireAnswer& answer, Dice& dice) {
  const size_t begin = answer.body.find("<Size>");
  const size_t end = answer.body.find("</Size>");
  answer.SetBody(absl::StrCat(
      answer.body.substr(0, begin), "<Size>",
      dice.OneOf<std::string>({"0", "1", "9223372036854775807", "18446744073709551616", "-1",
                               "many", "", "1e9", absl::StrCat(dice.Below(1 << 30))}),
      answer.body.substr(end)));
}

// Names that the prefix doesn't hold, or that are no names.
void StrangeKeysInList(WireAnswer& answer, Dice& dice) {
  const std::string key = dice.OneOf<std::string>(
      {"../../etc/x.safetensors", "m/../other.safetensors", "m/", "m", "", "m/deeper/x.safetensors",
       "m//x.safetensors", "other/x.safetensors", "m/a\nb.safetensors",
       absl::StrCat("m/", std::string(2000, 'k'), ".safetensors"), "m/./x.safetensors", "/",
       "m/gone.safetensors", "m/%2e%2e.safetensors"});
  const std::string object = absl::StrCat(
      "<Contents><Key>", key, "</Key><Size>1</Size><ETag>&quot;x&quot;</ETag>", "</Contents>");
  answer.SetBody(absl::StrReplaceAll(
      answer.body, {{"</ListBucketResult>", absl::StrCat(object, "</ListBucketResult>")}}));
}

void EndlessList(WireAnswer& answer, Dice& dice) {
  std::string more = absl::StrReplaceAll(
      answer.body,
      {{"<IsTruncated>false</IsTruncated>",
        absl::StrCat("<IsTruncated>true</IsTruncated><NextContinuationToken>",
                     dice.OneOf<std::string>(
                         {"again", absl::StrCat(dice.Below(1'000'000)), std::string(4000, 't')}),
                     "</NextContinuationToken>")}});
  if (dice.Chance(10)) {
    static const std::string objects = [] {
      std::string all;
      for (int i = 0; i < 20'000; ++i) {
        absl::StrAppend(&all, "<Contents><Key>m/", i,
                        "</Key><Size>1</Size><ETag>x</ETag></Contents>");
      }
      return absl::StrCat(all, "</ListBucketResult>");
    }();
    more = absl::StrReplaceAll(more, {{"</ListBucketResult>", objects}});
  }
  answer.SetBody(std::move(more));
}

std::string ErrorText(const std::string& code, const std::string& more) {
  return absl::StrCat("<?xml version=\"1.0\"?><Error><Code>", code,
                      "</Code><Message>inner words</Message>", more, "</Error>");
}

void WrongRegion(WireAnswer& answer, Dice& dice) {
  const std::string region =
      dice.OneOf<std::string>({"eu-west-3", absl::StrCat("r-", dice.Below(1000)), "us-east-1", "",
                               "EU WEST", "x/../../y", std::string(1000, 'r')});
  const std::string elsewhere = answer.asked.elsewhere;
  answer.Become(
      dice.OneOf({301, 307, 400, 403}),
      ErrorText(
          dice.OneOf<std::string>({"AuthorizationHeaderMalformed", "PermanentRedirect",
                                   "IllegalLocationConstraintException", "TemporaryRedirect"}),
          absl::StrCat("<Region>", region, "</Region><Endpoint>", elsewhere, "</Endpoint>")));
  answer.Set("x-amz-bucket-region", region);
  answer.Set("Location", absl::StrCat("http://", elsewhere, answer.asked.target));
}

// Errors whose bodies are nonsense, and errors of store and clock that come and go.
void StrangeErrors(WireAnswer& answer, Dice& dice) {
  const std::string text =
      ErrorText(dice.OneOf<std::string>({"RequestTimeTooSkewed", "ExpiredToken", "InvalidToken",
                                         "SlowDown", "RequestTimeout", "InternalError", "NoSuchKey",
                                         "NoSuchBucket", "AccessDenied", "InvalidObjectState",
                                         "Inner words", "", std::string(1000, 'c')}),
                dice.Chance(20) ? "<Code>twice</Code>" : "");
  answer.Become(dice.OneOf({400, 403, 404, 500, 503, 409}),
                dice.Chance(70) ? text : text.substr(0, dice.Below(text.size())));
  answer.Set("Date", dice.OneOf<std::string>({"", "Sat, 01 Jan 2050 00:00:00 GMT", "never",
                                              "Thu, 01 Jan 1970 00:00:00 GMT",
                                              "Mon, 32 Foo 99999 99:99:99 GMT"}));
}

void FlippedBit(WireAnswer& answer, Dice& dice) {
  if (!answer.body.empty()) {
    char& byte = answer.body[dice.Below(answer.body.size())];
    byte = static_cast<char>(byte ^ 1 << dice.Below(8));
  }
}

void WrongChecksum(WireAnswer& answer, Dice& dice) {
  for (auto& [name, value] : answer.fields) {
    if (absl::StartsWith(name, "x-amz-checksum-") && name != "x-amz-checksum-type") {
      const std::string another = (value[0] == 'A' ? "B" : "A") + value.substr(1);
      value = dice.OneOf<std::string>({another, another, "", value + "-2", value + "-99999999999",
                                       "====", std::string(5000, 'A'), "\x80"});
    }
  }
  if (dice.Chance(30)) {
    answer.Set("x-amz-checksum-type", dice.OneOf<std::string>({"COMPOSITE", "", "NONE"}));
  }
}

}  // namespace

std::vector<Lie> LiesOfStores() {
  using About = Lie::About;
  constexpr Reason kProtocol = Reason::kSourceProtocol;
  constexpr Reason kUnavailable = Reason::kSourceUnavailable;
  constexpr Reason kDenied = Reason::kSourceDenied;
  constexpr Reason kNotFound = Reason::kModelNotFound;
  return {
      {.name = "ListingCut",
       .reasons = {kProtocol},
       .tell = ListingCut,
       .about = About::kListing,
       .never_right = true},
      {.name = "ListingBomb",
       .reasons = {kProtocol},
       .tell = ListingBomb,
       .about = About::kListing,
       .never_right = true},
      {.name = "ListingOfAnotherKind",
       .reasons = {kProtocol},
       .tell = ListingOfAnotherKind,
       .about = About::kListing,
       .never_right = true},
      {.name = "WrongLengthInList",
       .reasons = {kProtocol},
       .tell = WrongLengthInList,
       .about = About::kListing},
      {.name = "StrangeKeysInList",
       .reasons = {kProtocol, kNotFound, Reason::kMalformedModel},
       .tell = StrangeKeysInList,
       .about = About::kListing},
      {.name = "EndlessList",
       .reasons = {kProtocol},
       .tell = EndlessList,
       .about = About::kListing},
      {.name = "FlippedBit",
       // A shard's name in an index may be hit, too.
       .reasons = {Reason::kVerificationFailed, Reason::kMalformedModel, kNotFound},
       .tell = FlippedBit,
       .about = About::kObjectsOfS3,
       .checksums = true},
      {.name = "WrongChecksum",
       .reasons = {Reason::kVerificationFailed, kProtocol},
       .tell = WrongChecksum,
       .about = About::kChecksums,
       .checksums = true},
      {.name = "WrongRegion",
       .reasons = {kProtocol, kUnavailable, kDenied},
       .tell = WrongRegion,
       .about = About::kObjectsOfS3},
      {.name = "StrangeErrors",
       .reasons = {kProtocol, kUnavailable, kDenied, kNotFound},
       .tell = StrangeErrors,
       .about = About::kObjectsOfS3},
  };
}

std::vector<Lie> AllLies() {
  std::vector<Lie> all = LiesAboutBytes();
  for (const std::vector<Lie>& more : {LiesAboutHttp(), LiesOfStores()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace weightd::source
