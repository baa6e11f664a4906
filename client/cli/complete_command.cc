#include "client/cli/complete_command.h"

#include <map>
#include <set>

#include "client/cli/arguments.h"
#include "client/cli/completion.h"
#include "client/cli/remote_options.h"
#include "client/cpp/admin_client.h"

namespace weightd::cli {
namespace {

// Somebody waits with a finger on the key.
constexpr absl::Duration kPatience = absl::Milliseconds(500);

client::AdminClient::Options OptionsOf(const std::map<std::string, std::string>& given) {
  const auto value = [&given](const char* name) {
    const auto found = given.find(name);
    return found == given.end() ? "" : found->second;
  };
  client::AdminClient::Options options = {value("--socket-dir"), kPatience};
  options.remote.address = value("--address");
  options.remote.ca_file = value("--ca");
  options.remote.certificate_file = value("--cert");
  options.remote.key_file = value("--key");
  options.remote.server_name = value("--server-name");
  return options;
}

// What means itself to every shell. Bash puts candidates on the line as they are, and a model's
// name is whatever a client asked for.
constexpr char kPlain[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/%@+,=-";

// Aliases, and URIs of models that have none.
void OfferModels(Completion& completion) {
  client::AdminClient::Options options = OptionsOf(completion.options);
  if (!CompleteRemote(options.socket_dir, options.remote).ok()) {
    return;
  }
  const auto daemon = client::AdminClient::Connect(options);
  if (!daemon.ok()) {
    return;
  }
  std::set<std::string> names;
  if (const auto models = daemon->ListModels(); models.ok()) {
    for (const v1::ModelSummary& model : *models) {
      names.insert(model.aliases().begin(), model.aliases().end());
      if (model.aliases().empty()) {
        names.insert(model.model());
      }
    }
  }
  if (const auto configured = daemon->ListConfiguredModels(); configured.ok()) {
    for (const v1::ConfiguredModel& model : *configured) {
      names.insert(model.name());
    }
  }
  for (const std::string& name : names) {
    if (name.find_first_not_of(kPlain) == std::string::npos) {
      Offer(name, "", completion);
    }
  }
}

}  // namespace

void PrintCompletions(const std::vector<std::string>& words, std::ostream& out) {
  Completion completion = Complete(DescribeCommandLine(), words);
  if (completion.models) {
    OfferModels(completion);
  }
  for (const Candidate& candidate : completion.candidates) {
    out << candidate.word;
    if (!candidate.what.empty()) {
      out << '\t' << candidate.what;
    }
    out << '\n';
  }
  if (completion.files) {
    out << ":files\n";
  }
}

}  // namespace weightd::cli
