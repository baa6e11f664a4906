// Configs that are wrong, and what is said of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/config.h"
#include "tests/daemon/config_parsing.h"

namespace weightd {
namespace {

using ::testing::HasSubstr;

TEST(Config, RefusesUnknownKeysAndWrongForms) {
  ExpectRefused({
      {"host:\n  bugdet: 1GiB", "2: host.bugdet: unknown key"},
      {"\n\nnonsense: 1", "3: nonsense: unknown key"},
      {"log: {level: info, level: debug}", "1: key \"level\" stands twice, first in line 1"},
      {"- a", "1: expected keys and values"},
      {"hello", "1: expected keys and values"},
      {"host: 3", "1: host: expected keys and values"},
      {"host:", "1: host: no value"},
      {"listeners: {name: a}", "1: listeners: expected a list"},
      {"listeners: [a]", "1: listeners[0]: expected keys and values"},
      {"listeners: [~]", "1: listeners[0]: expected keys and values"},
      {"socket_dir: [a]", "1: socket_dir: expected a single value"},
      {"socket_dir: ''", "1: socket_dir: no value"},
      {"host:\n  huge_pages: yes", "2: host.huge_pages: expected true or false"},
      {"host:\n  budget: 1GiB\n  ready: 2GiB", "3: host.ready: "},
      {"sources: {file: {roots: [[a]]}}", "1: sources.file.roots[0]: expected a single value"},
  });
  EXPECT_THAT(
      Parse("listeners: [{name: default, calls_per_second: 5000000000}]").status().message(),
      HasSubstr("1: listeners[0].calls_per_second: too large"));
  EXPECT_THAT(HintOf(Parse("host: {x: 1}").status()),
              HasSubstr("budget, mlock, huge_pages, ready"));
}

TEST(Config, RefusesBadNumbers) {
  for (const std::string& size : {"64G", "64gib", "-1", "1.5GiB", "64 GiB", "0x10", "GiB", "1e9",
                                  "0", "17179869184TiB", "99999999999999999999", "1KiB"}) {
    EXPECT_FALSE(Parse(absl::StrCat("host: {budget: ", size, "}")).ok()) << size;
  }
  for (const std::string& mode :
       {"700", "0800", "07000", "rwx", "448", "0o700", "-700", "0077", "0722"}) {
    EXPECT_FALSE(Parse(absl::StrCat("listeners: [{name: default, mode: ", mode, "}]")).ok())
        << mode;
  }
  for (const std::string& time : {"60", "-1s", "0s", "inf", "1y", "10000h", "1 s", ""}) {
    EXPECT_FALSE(Parse(absl::StrCat("cache: {unclaimed_lease: \"", time, "\"}")).ok()) << time;
    EXPECT_FALSE(Parse(absl::StrCat("cache: {revalidate: \"", time, "\"}")).ok()) << time;
  }
  for (const std::string& rate :
       {"10Gb", "10GB", "10gb/s", "10Gbit/s", "10Gbps", "1000000", "1.5Gb/s", "10 Gb/s", "Gb/s",
        "0", "0b/s", "-1Gb/s", "999kb/s", "101Tb/s", "99999999TB/s", "1GB/s/s"}) {
    EXPECT_FALSE(Parse(absl::StrCat("sources: {bandwidth: ", rate, "}")).ok()) << rate;
  }
  for (const std::string& count : {"0", "-1", "4294967297", "1.0", "many"}) {
    EXPECT_FALSE(Parse(absl::StrCat("cache: {max_loads: ", count, "}")).ok()) << count;
  }
}

TEST(Config, RefusesWhatMakesNoSense) {
  ExpectRefused({
      {"socket_dir: run/w", "1: socket_dir: not an absolute path"},
      {"listeners:\n - name: a\n", "2: listeners[0].directory: missing"},
      {"listeners:\n - name: a b\n   directory: /d", "2: listeners[0].name: not a name"},
      {"listeners:\n - {name: a, directory: /d}\n - {name: a, directory: /e}",
       "3: listeners[1].name: another listener"},
      {"listeners:\n - {name: a, directory: /d}\n - {name: b, directory: /d}",
       "3: listeners[1].directory: another listener"},
      {"listeners:\n - {name: a, directory: /d}\n - {name: b, directory: /d/}",
       "3: listeners[1].directory: another listener"},
      {"listeners: [{name: admin, directory: /d}]", "1: listeners[0].name: logs and metrics"},
      {"listeners: [{name: admin-tcp, directory: /d}]", "1: listeners[0].name: logs and metrics"},
      {"listeners: [{name: a, directory: d}]", "1: listeners[0].directory: not an absolute path"},
      {"listeners: [{name: a, directory: /x/../d}]", "1: listeners[0].directory: not an absolute"},
      {"models:\n- {name: a, uri: /m}\n- {name: a, uri: /n}", "3: models[1].name: another model"},
      {"models: [{name: /a, uri: /m}]", "1: models[0].name: not a name"},
      {"models: [{name: a}]", "1: models[0].uri: "},
      {"models:\n- name: a\n  uri: /a\n  sha256: [m=12]", "4: models[0].sha256[0]: \"12\" is no"},
      {absl::StrCat("models:\n- {name: a, uri: /a, sha256: [", std::string(64, 'a'),
                    "]}\n- {name: b, uri: /a, sha256: [", std::string(64, 'b'), "]}"),
       "3: models[1].sha256[0]: the only file is pinned to two digests"},
      {"models:\n- name: a\n  uri: ftp://host/x", "3: models[0].uri: "},
      {"verify: slow", "1: verify: must be one of fast, full, never"},
      {"models: [{name: a, uri: /a, verify: x}]", "1: models[0].verify: must be one of"},
      {"models:\n- {name: a, uri: /a, verify: full}\n- {name: b, uri: /a, verify: never}",
       "3: models[1].verify: another model of this URI"},
      {"keys: [{key_env: K}]", "1: keys[0]: names no models"},
      {"keys: [{models: ['**']}]", "1: keys[0]: names no secret"},
      {"keys: [{models: ['**'], key_env: K, password_env: P}]", "1: keys[0]: names several"},
      {"keys: [{models: ['**'], key_file: k}]", "1: keys[0].key_file: not an absolute path"},
      {"keys: [{models: ['**'], key_env: K, cipher: aes}]",
       "1: keys[0].cipher: must be one of secretbox, aes-ctr"},
      {"keys: [{models: ['**'], key_env: K, iv: '00'}]", "1: keys[0].iv: only keys of aes-ctr"},
      {"keys: [{models: ['**'], key_env: K, iv_env: I}]",
       "1: keys[0].iv_env: only keys of aes-ctr"},
      {"keys: [{models: ['**'], cipher: aes-ctr, password_env: P}]",
       "1: keys[0]: aes-ctr takes a key, not a password"},
      {"keys:\n- models: ['**']\n  cipher: aes-ctr\n  key_env: K\n  iv: 0011",
       "5: keys[0].iv: not an IV of 16 bytes"},
      {"keys: [{models: ['**'], cipher: aes-ctr, iv: MDEyMzQ1Njc4OWFiY2RlZg==, iv_env: I}]",
       "1: keys[0].iv_env: iv is given, too"},
      {"keys: [{models: ['**'], cipher: aes-ctr, key_env: K, key_file: /k}]",
       "1: keys[0]: names several secrets"},
      {"keys: [{cipher: aes-ctr}]", "1: keys[0]: names no models"},
      {"sources:\n  file:\n    roots:\n    - models", "4: sources.file.roots[0]: not an absolute"},
      {"sources: {http: {allowed_networks: [10.0.0.0]}}",
       "1: sources.http.allowed_networks[0]: not"},
      {"sources: {http: {allowed_networks: [10.0.0.0/33]}}",
       "1: sources.http.allowed_networks[0]: not"},
      {"sources: {http: {allowed_networks: ['::1/129']}}",
       "1: sources.http.allowed_networks[0]: not"},
      {"sources: {s3: {stores: [{buckets: [bbb]}]}}", "1: sources.s3.stores[0].name: not a name"},
      {"sources: {s3: {stores: [{name: a}]}}", "1: sources.s3.stores[0].buckets: names no bucket"},
      {"sources:\n  s3:\n    stores:\n    - {name: a, buckets: [bbb]}\n    - {name: a, buckets: "
       "[ccc]}",
       "5: sources.s3.stores[1].name: another store"},
      {"sources: {s3: {stores: [{name: a, buckets: [Weights]}]}}",
       "1: sources.s3.stores[0].buckets[0]: not a bucket"},
      {"sources: {s3: {stores: [{name: a, buckets: ['s3://weights/']}]}}",
       "1: sources.s3.stores[0].buckets[0]: not a bucket"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb, 'bbb/']}]}}",
       "1: sources.s3.stores[0].buckets[1]: named before"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], endpoint: 'ftp://h'}]}}",
       "1: sources.s3.stores[0].endpoint: not an endpoint"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], endpoint: 'https://h/path'}]}}",
       "1: sources.s3.stores[0].endpoint: not an endpoint"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], style: odd}]}}",
       "1: sources.s3.stores[0].style: must be one of"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], ca_file: x}]}}",
       "1: sources.s3.stores[0].ca_file: not an absolute path"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], credentials: {access_key_id: K}}]}}",
       "1: sources.s3.stores[0].credentials: access_key_id and secret_key_file"},
      {"sources: {s3: {stores: [{name: a, buckets: [bbb], "
       "credentials: {anonymous: true, profile_file: /f}}]}}",
       "1: sources.s3.stores[0].credentials: a key, a file of profiles"},
      {"keeper_dir: run/keeper", "1: keeper_dir: not an absolute path"},
      {"keeper_dir: /" + std::string(95, 'x'), "1: keeper_dir: too long for the address"},
      {"metrics: {address: 9464}", "1: metrics.address: not an address of TCP"},
      {"metrics: {address: 'localhost:9464'}", "1: metrics.address: not an address of TCP"},
      {"metrics: {address: '127.0.0.1:65536'}", "1: metrics.address: not an address of TCP"},
      {"metrics: {address: '::1:9464'}", "1: metrics.address: not an address of TCP"},
      {"log: {level: verbose}", "1: log.level: must be one of debug, info, warning, error"},
      {"log: {format: xml}", "1: log.format: must be one of json, text"},
  });
}

TEST(Config, RefusesHubsThatMakeNoSense) {
  for (const char* endpoint :
       {"huggingface.co", "ftp://h", "s3://b", "hf://o/n", "/hub", "https://",
        "https://me:secret@h", "https://h/?token=secret", "https://h:0"}) {
    const std::string text = absl::StrCat("sources:\n  hf:\n    endpoint: '", endpoint, "'");
    ExpectRefused({{text, "3: sources.hf.endpoint: the hub's endpoint is no address"}});
    const absl::Status status = Parse(text).status();
    EXPECT_THAT(HintOf(status), HasSubstr("sources.hf.token_file")) << endpoint;
    EXPECT_EQ(status.ToString().find("secret"), std::string::npos) << status;
  }
  for (const char* endpoint : {"https://huggingface.co", "http://127.0.0.1:8080/hub/"}) {
    EXPECT_TRUE(Parse(absl::StrCat("sources: {hf: {endpoint: '", endpoint, "'}}")).ok())
        << endpoint;
  }
  ExpectRefused({
      {"sources: {hf: {token_file: token}}", "1: sources.hf.token_file: not an absolute path"},
      {"sources:\n  hf:\n    cache: ~/hub", "3: sources.hf.cache: not an absolute path"},
      {"sources: {hf: {ca_file: ca.pem}}", "1: sources.hf.ca_file: not an absolute path"},
      {"sources: {hf: {offline: 1}}", "1: sources.hf.offline: expected true or false"},
      {"sources: {hf: {bandwidth: 1kb/s}}", "1: sources.hf.bandwidth: "},
      {"sources: {hf: {token: hf_secret}}", "1: sources.hf.token: unknown key"},
      {"sources: {hf: [a]}", "1: sources.hf: expected keys and values"},
  });
}

TEST(Config, RefusesGpusThatMakeNoSense) {
  for (const char* budget :
       {"0%", "101%", "-1%", "1.5%", "%", "50 %", "0.5", "half", "1MiB", "2048TiB"}) {
    ExpectRefused({{absl::StrCat("gpu: {budget: '", budget, "'}"), "1: gpu.budget: "}});
  }
  for (const char* budget : {"1%", "100%", "2MiB", "40GB"}) {
    EXPECT_TRUE(Parse(absl::StrCat("gpu: {budget: '", budget, "'}")).ok()) << budget;
  }
  for (const char* ring : {"15MiB", "5GiB"}) {
    ExpectRefused({{absl::StrCat("gpu: {ring: ", ring, "}"), "1: gpu.ring: must be from 16MiB"}});
  }
  ExpectRefused({
      {"gpu:\n  reserve: 2048TiB", "2: gpu.reserve: must be at most"},
      {"gpu:\n  budgets:\n  - {gpu: all, budget: 1GiB}", "3: gpu.budgets[0].gpu: not a GPU"},
      {"gpu: {budgets: [{budget: 1GiB}]}", "1: gpu.budgets[0].gpu: not a GPU"},
      {"gpu: {budgets: [{gpu: 0}]}", "1: gpu.budgets[0].budget: not a size"},
      {"gpu: {budgets: [{gpu: 0, budget: 50%}]}", "1: gpu.budgets[0].budget: not a size"},
      {"gpu: {budgets: [{gpu: 0, budget: 1kB}]}", "1: gpu.budgets[0].budget: must be from"},
      {"gpu:\n  budgets:\n  - {gpu: 0, budget: 1GiB}\n  - {gpu: 0, budget: 1GiB}",
       "4: gpu.budgets[1].gpu: named before"},
  });
}

TEST(Config, RefusesAdministrationThatMakesNoSense) {
  constexpr absl::string_view kFiles = "certificate_file: /c, key_file: /k, client_ca_file: /a";
  const auto tcp = [](absl::string_view fields) {
    return absl::StrCat("admin: {tcp: {", fields, "}}");
  };
  for (const char* address : {"7443", "host:7443", ":7443", "10.0.0.7", "10.0.0.7:",
                              "10.0.0.7:70000", "10.0.0.7:-1", "10.0.0.7:1x", "::1:7443", "[::1]",
                              "[10.0.0.7]:1", "10.0.0.256:1", "[::1:7443", "10.0.0.7:4294967297"}) {
    ExpectRefused({{tcp(absl::StrCat("address: '", address, "', ", kFiles)),
                    "1: admin.tcp.address: not an address of TCP"}});
  }
  for (const char* address : {"10.0.0.7:7443", "0.0.0.0:1", "[::]:65535", "[fd00::1]:7443"}) {
    EXPECT_TRUE(Parse(tcp(absl::StrCat("address: '", address, "', ", kFiles))).ok()) << address;
  }
  const std::string address = "address: '10.0.0.7:7443', ";
  ExpectRefused({
      {tcp(kFiles), "1: admin.tcp: has no address"},
      {tcp(address + "key_file: /k, client_ca_file: /a"), "1: admin.tcp.certificate_file: missing"},
      {tcp(address + "certificate_file: /c, client_ca_file: /a"), "1: admin.tcp.key_file: missing"},
      {tcp(address + "certificate_file: /c, key_file: /k"), "1: admin.tcp.client_ca_file: missing"},
      {tcp(address + "certificate_file: c, key_file: /k, client_ca_file: /a"),
       "1: admin.tcp.certificate_file: not an absolute path"},
      {tcp(absl::StrCat(address, kFiles, ", allowed_names: ['']")),
       "1: admin.tcp.allowed_names[0]: "},
  });
}

TEST(Config, RefusesPlacementsThatMakeNoSense) {
  const auto placed = [](absl::string_view placement) {
    return absl::StrCat("models: [{name: a, uri: /a, placement: ", placement, "}]");
  };
  for (const char* gpu : {"gpu0", "GPU-0", "-1", "1000", "ALL"}) {
    ExpectRefused({{placed(absl::StrCat("{gpus: [0, '", gpu, "']}")),
                    "1: models[0].placement.gpus[1]: not a GPU"}});
  }
  ExpectRefused({
      {placed("{gpu_only: true}"), "1: models[0].placement.gpu_only: names no GPU"},
      {placed("{handles: legacy}"), "1: models[0].placement.handles: names no GPU"},
      {placed("{gpus: [all], handles: ipc}"), "1: models[0].placement.handles: must be one of"},
      {"models:\n- {name: a, uri: /a, placement: {gpus: [0]}}\n"
       "- {name: b, uri: /a, placement: {gpus: [1]}}",
       "3: models[1].placement: another model of this URI"},
  });
  EXPECT_TRUE(Parse(placed("{gpus: [all, 0], gpu_only: true, handles: legacy}")).ok());
  EXPECT_TRUE(Parse(placed("{}")).ok());
  EXPECT_TRUE(Parse("models:\n- {name: a, uri: /a, placement: {gpus: [0, 1]}}\n"
                    "- {name: b, uri: /a, placement: {gpus: [1, 0]}}\n- {name: c, uri: /a}")
                  .ok());
}

TEST(Config, RefusesHostileYaml) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'k'; ++c) {
    const std::string previous(1, static_cast<char>(c - 1));
    absl::StrAppend(&bomb, std::string(1, c), ": &", std::string(1, c), " [*", previous, ",*",
                    previous, "]\n");
  }
  ExpectRefused({
      {bomb, "1: anchors are not supported"},
      {"a: *x", "1: "},
      {"host: !!map {}", "1: tags are not supported"},
      {"log: {}\n---\nlog: {}", "3: a second document"},
      {std::string(100'000, '['), "1: "},
      {std::string(21, '[') + std::string(21, ']'), "1: nested deeper than 20"},
      {"? [a]\n: b", "1: a key must be a word"},
      {"a: [", "1: not YAML"},
      {"a: b: c", "1: not YAML"},
      {"\"a", "1: not YAML"},
      {"\ta: b", "1: not YAML"},
      {std::string("a: b\0", 5), "1: the text must be UTF-8"},
      {"a: b\nc: \xA0", "2: the text must be UTF-8"},
      {"socket_dir: \"/a\\nb\"", "1: socket_dir: control character"},
      {std::string((1 << 20) + 1, '#'), "1: a config of 1048577 bytes"},
  });
}

}  // namespace
}  // namespace weightd
