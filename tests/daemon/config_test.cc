#include "daemon/config.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "tests/daemon/config_parsing.h"

namespace weightd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::string_view kFull = R"(# everything
socket_dir: /run/w
host:
  budget: 64GiB
  mlock: false
  huge_pages: false
listeners:
  - name: default
  - name: tenants
    directory: /run/w/tenants
    mode: 0750
    access:
      attach: ["https://host/**", llama]
      load_configured: [ '*' ]
      load:
        - https://host/open/*
    max_sessions: 10
    max_connections: 20
models:
  - {name: llama, uri: "https://host/llama/", preload: true, pin: true}
  - name: local/mini.v1
    uri: /models/mini
    placement:
      gpus: [0, GPU-00112233-4455-6677-8899-aabbccddeeff]
      gpu_only: true
      handles: legacy
gpu:
  driver: /opt/libcuda.so.1
  budget: 40GiB
  reserve: 0
  ring: 64MiB
  budgets:
    - {gpu: 1, budget: 10GiB}
    - {gpu: MIG-00112233-4455-6677-8899-aabbccddeeff, budget: 10GB}
sources:
  file:
    roots: [/models]
    direct_io: false
  http:
    connections: 4
    chunk: 8MB
    stall_timeout: 1m30s
    attempts: 2
    bandwidth: 10Gb/s
    ca_file: /etc/ca.pem
    allowed_networks: [10.0.0.0/8, "fd00::/8"]
  s3:
    stores:
      - name: ours
        buckets: [weights, "shared/models/"]
        endpoint: https://store:8443
        region: r1
        style: virtual
        ca_file: /etc/store.pem
        requester_pays: true
        bandwidth: 100MiB/s
        credentials:
          access_key_id: KEY
          secret_key_file: /etc/secret
          session_token_file: /etc/token
      - name: public
        buckets: ["*"]
        credentials: {anonymous: true}
  bandwidth: 200kB/s
cache:
  revalidate: 5m
  unclaimed_lease: 500ms
  max_loads: 1
log:
  level: debug
  format: text
admin:
  tcp:
    address: "[::1]:7443"
    certificate_file: /etc/tls.crt
    key_file: /etc/tls.key
    client_ca_file: /etc/ca.crt
    allowed_names: ["*.ops.example"]
)";

TEST(Config, ReadsEveryField) {
  const v1::Config config = Parsed(kFull);
  EXPECT_EQ(config.socket_dir(), "/run/w");
  EXPECT_EQ(config.host().budget(), uint64_t{64} << 30);
  EXPECT_TRUE(config.host().has_mlock());
  EXPECT_FALSE(config.host().huge_pages());
  ASSERT_EQ(config.listeners_size(), 2);
  EXPECT_EQ(config.listeners(0).directory(), "/run/w");
  EXPECT_EQ(config.listeners(0).mode(), 0700);
  EXPECT_FALSE(config.listeners(0).has_access());
  EXPECT_EQ(config.listeners(1).mode(), 0750);
  EXPECT_THAT(config.listeners(1).access().attach(), ElementsAre("https://host/**", "llama"));
  EXPECT_THAT(config.listeners(1).access().load_configured(), ElementsAre("*"));
  EXPECT_EQ(config.listeners(1).max_sessions(), 10);
  ASSERT_EQ(config.models_size(), 2);
  EXPECT_TRUE(config.models(0).pin());
  EXPECT_EQ(config.models(1).name(), "local/mini.v1");
  EXPECT_FALSE(config.models(1).preload());
  EXPECT_THAT(config.models(1).placement().gpus(),
              ElementsAre("0", "GPU-00112233-4455-6677-8899-aabbccddeeff"));
  EXPECT_TRUE(config.models(1).placement().gpu_only());
  EXPECT_EQ(config.models(1).placement().handles(), "legacy");
  EXPECT_FALSE(config.models(0).has_placement());
  EXPECT_EQ(config.gpu().driver(), "/opt/libcuda.so.1");
  EXPECT_EQ(config.gpu().budget(), "40GiB");
  EXPECT_EQ(config.gpu().reserve(), 0);
  EXPECT_EQ(config.gpu().ring(), 64 << 20);
  ASSERT_EQ(config.gpu().budgets_size(), 2);
  EXPECT_EQ(config.gpu().budgets(0).gpu(), "1");
  EXPECT_THAT(config.sources().file().roots(), ElementsAre("/models"));
  EXPECT_EQ(config.sources().http().chunk(), 8'000'000);
  EXPECT_EQ(config.sources().http().stall_timeout().seconds(), 90);
  ASSERT_EQ(config.sources().s3().stores_size(), 2);
  EXPECT_THAT(config.sources().s3().stores(0).buckets(), ElementsAre("weights", "shared/models/"));
  EXPECT_EQ(config.sources().s3().stores(0).credentials().session_token_file(), "/etc/token");
  EXPECT_TRUE(config.sources().s3().stores(1).credentials().anonymous());
  EXPECT_EQ(config.cache().unclaimed_lease().nanos(), 500'000'000);
  EXPECT_EQ(RevalidateInterval(config.cache()), absl::Minutes(5));
  EXPECT_EQ(config.log().format(), "text");
  EXPECT_EQ(config.admin().tcp().address(), "[::1]:7443");
  EXPECT_EQ(config.admin().tcp().client_ca_file(), "/etc/ca.crt");
  EXPECT_THAT(config.admin().tcp().allowed_names(), ElementsAre("*.ops.example"));
}

TEST(Config, FillsInDefaults) {
  for (absl::string_view text : {"", "# nothing\n", "---\n", "{}"}) {
    const v1::Config config = Parsed(text);
    EXPECT_EQ(config.socket_dir(), "/run/weightd");
    ASSERT_EQ(config.listeners_size(), 1);
    EXPECT_EQ(config.listeners(0).name(), "default");
    EXPECT_EQ(config.listeners(0).directory(), "/run/weightd");
    EXPECT_EQ(config.listeners(0).mode(), 0700);
    EXPECT_EQ(config.listeners(0).max_sessions(), 256);
    EXPECT_EQ(config.listeners(0).max_connections(), 1024);
    EXPECT_EQ(config.host().budget(), 0);
    EXPECT_FALSE(config.host().has_mlock());
    EXPECT_TRUE(config.host().huge_pages());
    EXPECT_EQ(config.gpu().driver(), "libcuda.so.1");
    EXPECT_EQ(config.gpu().budget(), "50%");
    EXPECT_EQ(config.gpu().reserve(), uint64_t{1} << 30);
    EXPECT_EQ(config.gpu().ring(), 256 << 20);
    EXPECT_TRUE(config.sources().file().direct_io());
    EXPECT_EQ(config.sources().http().connections(), 32);
    EXPECT_EQ(config.sources().http().chunk(), 32 << 20);
    EXPECT_EQ(config.sources().http().stall_timeout().seconds(), 30);
    EXPECT_EQ(config.sources().http().attempts(), 5);
    EXPECT_EQ(RevalidateInterval(config.cache()), absl::Seconds(60));
    EXPECT_EQ(config.cache().unclaimed_lease().seconds(), 30);
    EXPECT_EQ(config.cache().max_loads(), 8);
    EXPECT_EQ(config.log().level(), "info");
    EXPECT_EQ(config.log().format(), "json");
  }
}

TEST(Config, TheFlagWinsOverTheFileOverTheEnvironment) {
  const ConfigOverrides both = {.flag_socket_dir = "/flag", .environment_socket_dir = "/env"};
  const ConfigOverrides environment = {.environment_socket_dir = "/env"};
  EXPECT_EQ(ParseConfig("socket_dir: /file", "w", both)->socket_dir(), "/flag");
  EXPECT_EQ(ParseConfig("socket_dir: /file", "w", environment)->socket_dir(), "/file");
  EXPECT_EQ(ParseConfig("", "w", environment)->socket_dir(), "/env");
  EXPECT_EQ(ParseConfig("", "w", both)->listeners(0).directory(), "/flag");
}

TEST(Config, PrintsWhatItReads) {
  for (absl::string_view text : {kFull, absl::string_view()}) {
    const v1::Config config = Parsed(text);
    const std::string printed = PrintConfig(config);
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(config, Parsed(printed)))
        << printed;
  }
  const std::string printed = PrintConfig(Parsed(kFull));
  EXPECT_THAT(printed, HasSubstr("budget: 64GiB"));
  EXPECT_THAT(printed, HasSubstr("mode: 0750"));
  EXPECT_THAT(printed, HasSubstr("stall_timeout: 1m30s"));
  EXPECT_THAT(printed, HasSubstr("bandwidth: 10Gb/s"));
  EXPECT_THAT(printed, HasSubstr("bandwidth: 100MiB/s"));
  EXPECT_THAT(printed, HasSubstr("bandwidth: 1600kb/s"));
}

TEST(Config, AliasesOfOneModelMayPinTheSame) {
  const std::string digest(64, 'a');
  EXPECT_EQ(Parsed(absl::StrCat("models:\n- {name: a, uri: /m, sha256: [", digest,
                                "]}\n- {name: b, uri: /m, sha256: ['sha256:", digest, "']}"))
                .models_size(),
            2);
}

TEST(Config, RatesAreInBitsOrBytes) {
  const std::pair<absl::string_view, uint64_t> rates[] = {
      {"10Gb/s", 1'250'000'000},  {"10GB/s", 10'000'000'000}, {"1Mb/s", 125'000},
      {"8000kb/s", 1'000'000},    {"8000000b/s", 1'000'000},  {"1000000B/s", 1'000'000},
      {"200kB/s", 200'000},       {"1MB/s", 1'000'000},       {"1TB/s", 1'000'000'000'000},
      {"1Tb/s", 125'000'000'000}, {"1MiB/s", 1 << 20},        {"1GiB/s", 1 << 30},
  };
  for (const auto& [text, bytes] : rates) {
    const v1::Config config = Parsed(absl::StrCat("sources: {http: {bandwidth: ", text, "}}"));
    EXPECT_EQ(config.sources().http().bandwidth(), bytes) << text;
    EXPECT_FALSE(config.sources().has_bandwidth());
  }
}

TEST(Config, RevalidatesNeverOrAlways) {
  EXPECT_EQ(RevalidateInterval(Parsed("cache: {revalidate: never}").cache()),
            absl::InfiniteDuration());
  EXPECT_EQ(RevalidateInterval(Parsed("cache: {revalidate: always}").cache()),
            absl::ZeroDuration());
}

TEST(Config, OthersGetNothingByDefault) {
  ExpectRefused({
      {"listeners:\n- name: default\n  mode: 0755", "2: listeners[0].access: users other than"},
      {"listeners:\n- name: default\n  mode: 0710\n  access: {attach: []}",
       "4: listeners[0].access: users other than"},
      {"listeners:\n- name: default\n  access: {}", "3: listeners[0].access: names no patterns"},
      {"listeners:\n- name: default\n  mode: 0777\n  access: {attach: ['**']}",
       "3: listeners[0].mode: others could replace"},
      {"listeners:\n- name: default\n  access: {attach: [\"a\\0\"]}",
       "3: listeners[0].access.attach[0]: control character"},
  });
  EXPECT_TRUE(Parse("listeners: [{name: default, mode: 0755, access: {attach: ['**']}}]").ok());
}

TEST(Config, OwnersOfFoldersAreOthers) {
  const auto listener = [](absl::string_view fields) {
    return absl::StrCat("socket_dir: /run/w\nlisteners:\n- name: a\n  directory: /run/a\n", fields);
  };
  ExpectRefused({
      {listener("  owner: '61234'"), "3: listeners[0].access: users other than"},
      {listener("  owner: '61234'\n  access: {deny: ['**']}"),
       "6: listeners[0].access: users other than"},
      {listener("  owner: no-such-user"),
       "5: listeners[0].owner: this machine knows no user \"no-such-user\""},
      {listener("  owner: ':no-such-group'"), "5: listeners[0].owner: this machine knows no group"},
      {listener("  owner: a:b:c"), "5: listeners[0].owner: \"a:b:c\" is not an owner"},
      {"socket_dir: /run/w\nlisteners:\n- {name: a, directory: /run/w/, owner: '61234',"
       " access: {attach: ['**']}}",
       "3: listeners[0].owner: admin.sock is in this folder"},
      {"socket_dir: /run/w/own\nlisteners:\n- {name: a, directory: /run/w, owner: '61234',"
       " access: {attach: ['**']}}",
       "3: listeners[0].owner: admin.sock is in this folder"},
      {listener("  owner: '61234'\n  access: {attach: ['**']}\n- {name: b, directory: /run//a/b}"),
       "5: listeners[0].owner: the folder of listener b is in this one"},
  });
  EXPECT_TRUE(Parse(listener("  owner: '61234:61235'\n  access: {attach: ['**']}")).ok());
  EXPECT_TRUE(Parse(listener("  owner: ':61235'")).ok());
  EXPECT_TRUE(Parse(listener(absl::StrCat("  owner: '", geteuid(), "'"))).ok());
  EXPECT_TRUE(
      LetsOthersIn(Parsed(listener("  owner: '61234'\n  access: {attach: ['**']}")).listeners(0)));
  EXPECT_FALSE(LetsOthersIn(Parsed(listener("  owner: ':61235'")).listeners(0)));
  EXPECT_TRUE(
      LetsOthersIn(Parsed(listener("  mode: 0750\n  access: {attach: ['**']}")).listeners(0)));
}

TEST(Config, LimitsOfListeners) {
  const auto limit = [](absl::string_view field) {
    return absl::StrCat("listeners:\n- name: default\n  ", field);
  };
  ExpectRefused({
      {limit("max_bytes: 1kB"), "3: listeners[0].max_bytes: must be from"},
      {limit("max_bytes: 0"), "3: listeners[0].max_bytes: must be from"},
      {limit("calls_per_second: 0"), "3: listeners[0].calls_per_second: must be from 1 to"},
      {limit("connections_per_second: 1000001"),
       "3: listeners[0].connections_per_second: must be from 1 to"},
      {limit("access: {deny: ['']}"), "3: listeners[0].access.deny[0]: "},
      {limit("access:\n    deny:\n    - a\n    - https://host/x?y"),
       "6: listeners[0].access.deny[1]: can match no model: names are matched without query"},
      {limit("access: {deny: ['file://host/x']}"),
       "3: listeners[0].access.deny[0]: can match no model: file: URIs have no host"},
  });
  const v1::Config config =
      Parsed(limit("max_bytes: 2GiB\n  calls_per_second: 10\n  connections_per_second: 5\n"
                   "  access: {deny: ['secret-*']}"));
  EXPECT_EQ(config.listeners(0).max_bytes(), uint64_t{2} << 30);
  EXPECT_EQ(config.listeners(0).calls_per_second(), 10);
  EXPECT_EQ(config.listeners(0).connections_per_second(), 5);
  EXPECT_THAT(config.listeners(0).access().deny(), ElementsAre("secret-*"));
  EXPECT_FALSE(Parsed("").listeners(0).has_max_bytes());
}

}  // namespace
}  // namespace weightd
