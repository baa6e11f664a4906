#include "daemon/service/normal_pattern.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "common/uri.h"

namespace weightd::service {
namespace {

TEST(NormalPattern, ReadsAsTheNamesThatItIsHeldAgainst) {
  const struct {
    absl::string_view written, normal;
  } cases[] = {
      {"**", "**"},
      {"secret-*", "secret-*"},
      {"team/x", "team/x"},
      {"**/a b", "**/a%20b"},
      {"/plain/path.safetensors", "file:///plain/path.safetensors"},
      {"/a b/100%/**", "file:///a%20b/100%25/**"},
      {"/a/./b//c/", "file:///a/b/c/"},
      {"file://localhost/m/*", "file:///m/*"},
      {"file:/m", "file:///m"},
      {"file://**", "file://**"},
      {"file://*/m", "file://*/m"},
      {"HTTPS://Models.example:443/x", "https://models.example/x"},
      {"https://Models.Example/**", "https://models.example/**"},
      {"https://models.example", "https://models.example"},
      {"http://host.:080/%41/%2a", "http://host/A/%2A"},
      {"https://*.Example.:443/x", "https://*.example/x"},
      {"http://127.0.0.1:*/**", "http://127.0.0.1:*/**"},
      {"http://[::1]:80/a[1]", "http://[::1]/a%5B1%5D"},
      {"https://**.Safetensors", "https://**.Safetensors"},
      {"http*://Host/x y", "http*://host/x%20y"},
      {"*://host/**", "*://host/**"},
      {"s3://Bucket/a/%2*", "s3://bucket/a/%2*"},
      {"https:**", "https:**"},
      // The hub's names keep their case; a repository has a revision and is a folder.
      {"HF://Org/**", "hf://Org/**"},
      {"hf://Org/Name@main", "hf://Org/Name@main/"},
      {"hf://Org/Name@main/", "hf://Org/Name@main/"},
      {"hf://Org/Name@*/**", "hf://Org/Name@*/**"},
      {"hf://*/Name*", "hf://*/Name*/"},
      {"hf://Org/Name@v1/a//b%41 c", "hf://Org/Name@v1/a/bA%20c"},
      {"hf://Org/./Name@refs%2fpr%2F1", "hf://Org/Name@refs%2Fpr%2F1/"},
      {"hf://Org//Name@feature%2F*/**", "hf://Org/Name@feature%2F*/**"},
      {"hf://**", "hf://**"},
      {"hf://**/Name@main/**", "hf://**/Name@main/**"},
      {"hf://Org**", "hf://Org**"},
      // Any scheme: what has no upper case is for the hub as for hosts.
      {"*://org/**", "*://org/**"},
      {"h*://org-1/Name@main/X", "h*://org-1/Name@main/X"},
      {"**://*/Name@main/X", "**://*/Name@main/X"},
      {"*s://Host/x", "*s://host/x"},
      {"*t*://Host/x", "*t*://host/x"},
  };
  for (const auto& [written, normal] : cases) {
    const auto found = NormalPattern(written);
    ASSERT_TRUE(found.ok()) << written << ": " << found.status();
    EXPECT_EQ(*found, normal) << written;
    EXPECT_EQ(NormalPattern(*found).value_or(""), normal) << written << ", twice";
  }
}

TEST(NormalPattern, RefusesWhatNoNameCanBe) {
  for (absl::string_view text :
       {"file://host/x", "ftp://host/**", "https://host/a?sig=1", "https://host/#a",
        "https://user@host/**", "https:///x", "https://host:99999/", "https://a b/", "/a/../b",
        "https://h/%2e%2e/x", "https://h/%2Fx", "https://h/%zz", "https://h/%4", "a\\b",
        "https:/host/x", "models:x", "a\nb", "https://host../x",
        // A hub has organisations, with names of repositories that have revisions.
        "hf://Org", "hf:///Name@main/**", "hf://Org/Name", "hf://Org/Name/**", "hf://Org/a--b@main",
        "hf://Org/Name@../**", "hf://Org/Name@a%2F%2Fb/**", "hf://Org/Name@a%2F..%2Fb",
        "hf://Org/a%2Fb@main", "hf://Org/Name@main/a%2Fb", "hf://Org%2Fx/Name@main",
        "hf://o@x/Name@main", "hf://Org/Name@main/**?x",
        // Is that a host or an organisation?
        "*://Org/**", "h*://Org/x", "*f://Org/**", "**://Org**", "h*f://Org/**", "hf*://Org**"}) {
    const absl::Status status = NormalPattern(text).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << text;
    EXPECT_FALSE(HintOf(status).empty()) << text;
  }
}

// Without a run a pattern is a name.
TEST(NormalPattern, IsWhatUrisAreCalled) {
  for (absl::string_view name :
       {"/a b/m.safetensors", "file:///A/%41%20%7e/", "HTTP://H:80/x//y/./z", "s3://b/k[1]",
        "https://h.:8443/\xc3\xa4", "http://h/a'(b);c=d,e@f", "/x%41?#", "https://[FE80::1]:443/x",
        "HF://Org/Name@V1", "hf://o/n@main/A/b.safetensors", "hf://o/n@refs%2fpr%2f1/x"}) {
    const auto uri = Uri::Parse(name);
    ASSERT_TRUE(uri.ok()) << name << ": " << uri.status();
    EXPECT_EQ(NormalPattern(name).value_or(""), uri->Redacted()) << name;
  }
}

}  // namespace
}  // namespace weightd::service
