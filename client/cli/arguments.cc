#include "client/cli/arguments.h"

#include <CLI/CLI.hpp>
#include <array>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/cli/command_line_form.h"
#include "client/cli/gpu_options.h"
#include "client/cli/key_option.h"
#include "client/cli/nearest_word.h"
#include "client/cli/remote_options.h"
#include "common/pins.h"
#include "common/source_revision.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 good, 64 usage, 65 malformed data, 66 no such object, 69 daemon not reachable,\n"
    "70 our own bug, 73 output can't be made, 74 output lost (a full disk), 75 try again (no room\n"
    "in the budget, busy, store down), 77 not allowed.\n"
    "The socket folder is --socket-dir, the environment variable WEIGHTD_DIR, or /run/weightd.\n"
    "A daemon of another node: --address, --ca, --cert and --key before the command, or the\n"
    "environment variables WEIGHTD_ADDRESS, WEIGHTD_CA, WEIGHTD_CERT and WEIGHTD_KEY.";

// What takes no time, or as long as it takes, unless --timeout says otherwise.
constexpr absl::Duration kProbeTimeout = absl::Seconds(3);
constexpr absl::Duration kWaitTimeout = absl::Hours(1);

CLI::App* AddCommand(CLI::App& app, Arguments& arguments, Command command, const char* name,
                     const char* what) {
  CLI::App* const added = app.add_subcommand(name, what);
  added->callback([&arguments, command] { arguments.command = command; });
  // Options of weightctl itself may also follow the command.
  added->fallthrough();
  return added;
}

void AddModel(CLI::App* command, Arguments& arguments) {
  command->add_option("MODEL", arguments.model, "URI, or an alias of the daemon's config")
      ->required();
}

void AddStore(CLI::App* command, StoreAccess& store) {
  command->add_option("--endpoint", store.endpoint,
                      "https://host of the store (default: AWS_ENDPOINT_URL_S3, then AWS)");
  command->add_option("--region", store.region, "Its region (default: AWS_REGION, then us-east-1)");
  command->add_option("--profile", store.profile, "Profile of ~/.aws to take credentials from");
  command->add_option("--ca-file", store.ca_file, "Authorities to trust instead of the system's")
      ->type_name("FILE");
}

CLI::Option* AddKey(CLI::App* command, std::string& key) {
  return command
      ->add_option("--key", key, absl::StrCat("What opens it, if it is encrypted: ", kKeyForms))
      ->type_name("KIND=WHERE");
}

void AddInput(CLI::App* command, ConvertArguments& convert) {
  command->add_option("IN", convert.input, "Weight file or folder: a path or a URI")->required();
  AddKey(command, convert.key)
      ->description(absl::StrCat("What opens it, if it is encrypted: ", kKeyForms,
                                 "; if it was with AES-CTR (veTurboIO): ", kCtrKeyForms));
  command->add_option(
      "--iv", convert.iv,
      "IV of AES-CTR, if the files don't say it: 16 bytes in hexadecimal or base64");
  command->add_flag("--unpinned", convert.unpinned,
                    "Also from a server that doesn't tell versions of a file apart");
  AddStore(command, convert.store);
}

void AddConvert(CLI::App* command, ConvertArguments& convert) {
  AddInput(command, convert);
  command
      ->add_option("OUT", convert.output,
                   "New file (.safetensors or .tensors), new folder, or s3:// address of one")
      ->required();
  command->add_option("--format", convert.format, "Its format, if its name doesn't say it")
      ->check(CLI::IsMember(std::array<std::string, 2>{"safetensors", "tensorizer"}));
  command->add_option("--dtype", convert.dtype, "What floating-point tensors become")
      ->check(CLI::IsMember(std::array<std::string, 3>{"bf16", "f16", "f32"}));
  command
      ->add_option("--shard-size", convert.shard_bytes,
                   "A folder of files of at most so many bytes (5GB, 5GiB), with their index")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 60));
  command
      ->add_option("--encrypt", convert.encrypt,
                   "Encrypt a tensorizer file with such a key or password")
      ->type_name("KIND=WHERE");
  command
      ->add_option("--verify", convert.verify,
                   "How IN's own checksums are verified: one of each tensor, all, or none")
      ->check(CLI::IsMember(std::array<std::string, 3>{"fast", "full", "never"}))
      ->capture_default_str();
}

void AddPush(CLI::App* command, PushRequest& push) {
  command->add_option("FILE", push.path, "Weight file, or folder of a model")->required();
  command->add_option("URI", push.target, "s3://bucket/folder/ or s3://bucket/folder/name")
      ->required();
  AddStore(command, push.store);
  command->add_option("--connections", push.connections, "Parts sent at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_flag("--follow-links", push.follow_links,
                    "Also push what links lead to outside of the folder");
}

void AddPreload(CLI::App* preload, Arguments& arguments) {
  AddModel(preload, arguments);
  preload->add_flag("--pin", arguments.pin, "Never evict it to make room");
  CLI::Option* const no_wait =
      preload->add_flag("!--no-wait", arguments.wait, "Return when the load has begun");
  preload
      ->add_option_function<std::vector<std::string>>(
          "--sha256",
          [&arguments](const std::vector<std::string>& pins) {
            for (const std::string& pin : pins) {
              if (const absl::Status added = AddPin(pin, arguments.pins); !added.ok()) {
                throw CLI::ValidationError("--sha256", std::string(added.message()));
              }
            }
          },
          "Fail unless its file has this SHA-256; of several files: FILE=SHA256, repeated")
      ->type_name("[FILE=]SHA256")
      ->allow_extra_args(false)  // one each time
      ->excludes(no_wait);       // nobody would hear of a mismatch
  AddKey(preload, arguments.key)->excludes(no_wait);
  preload
      ->add_option("--gpu", arguments.gpus,
                   "Also to this GPU: index, UUID, or all; repeated for several")
      ->type_name("GPU")
      ->allow_extra_args(false);  // one each time
}

void AddModelCommands(CLI::App& app, Arguments& arguments) {
  const auto add = [&](Command command, const char* name, const char* what) {
    return AddCommand(app, arguments, command, name, what);
  };
  AddPreload(add(Command::kPreload, "preload", "Load a model and wait until it is there"),
             arguments);
  AddModel(add(Command::kWait, "wait",
               "Wait until a client can attach a model; over the clients' sockets"),
           arguments);
  add(Command::kList, "ls", "List models");
  CLI::App* show = add(Command::kShow, "show", "Describe one model");
  AddModel(show, arguments);
  show->add_flag("--tensors", arguments.tensors, "With all its tensors");
  CLI::App* evict = add(Command::kEvict, "evict", "Drop a model from the cache");
  AddModel(evict, arguments);
  evict->add_flag("--force", arguments.force, "Also while it is leased or pinned");
  AddGpu(evict, arguments, "Only its copy on this GPU");
  AddModel(add(Command::kPin, "pin", "Never evict a model to make room"), arguments);
  AddModel(add(Command::kUnpin, "unpin", "Undo pin"), arguments);
  add(Command::kLeases, "leases", "List who holds what")
      ->add_option("MODEL", arguments.model, "Only leases on this model");
}

void AddNodeCommands(CLI::App& app, Arguments& arguments) {
  const auto add = [&](Command command, const char* name, const char* what) {
    return AddCommand(app, arguments, command, name, what);
  };
  add(Command::kStatus, "status", "Budget, sessions and listeners of the daemon");
  add(Command::kWatch, "watch", "Show what the daemon does, until interrupted")
      ->add_flag("--events", arguments.events,
                 "A line for each event, as where output is no terminal");
  CLI::App* health =
      add(Command::kHealth, "health", "Whether the daemon serves: for probes, by the exit code");
  health->add_flag("--ready", arguments.ready,
                   "And has loaded every model that its config says to preload");
  health->add_option("--model", arguments.model, "And has this model")->type_name("MODEL");
  add(Command::kConfigured, "configured", "List the models of the config, and what became of them");
  add(Command::kReload, "reload", "Have the config file read again");
  add(Command::kLogLevel, "log-level",
      "Say how much the daemon logs, until it ends or its config says otherwise")
      ->add_option("LEVEL", arguments.log_level, "How much")
      ->required()
      ->check(CLI::IsMember(std::array<std::string, 4>{"debug", "info", "warning", "error"}));
  add(Command::kMetrics, "metrics", "Print what Prometheus would scrape");
  AddDrain(
      add(Command::kDrain, "drain",
          "Before another daemon takes over: stop loads, hand over what is there; or leave a GPU"),
      arguments);
  AddResume(add(Command::kResume, "resume", "Undo drain"), arguments);
  CLI::App* doctor = add(Command::kDoctor, "doctor",
                         "What on this node limits weightd, what it costs, what to do");
  doctor->add_flag("--fix", arguments.fix, "Set what root can set: huge pages for shared memory");
  doctor
      ->add_option("--cuda-driver", arguments.cuda_driver,
                   "Library of the CUDA driver (default: libcuda.so.1, if the node has one)")
      ->type_name("FILE");
}

void AddToolCommands(CLI::App& app, Arguments& arguments) {
  const auto add = [&](Command command, const char* name, const char* what) {
    return AddCommand(app, arguments, command, name, what);
  };
  CLI::App* const inspect = add(Command::kInspect, "inspect",
                                "Tensor table of a weight file or folder; no daemon needed");
  inspect->add_option("FILE", arguments.model, "Weight file or folder: a path or a URI")
      ->required();
  AddStore(inspect, arguments.convert.store);
  AddPush(add(Command::kPush, "push", "Upload a model to an S3-compatible store; no daemon needed"),
          arguments.push);
  AddConvert(add(Command::kConvert, "convert",
                 "Write a model in another format, type or cut; no daemon needed"),
             arguments.convert);
  AddInput(add(Command::kVerify, "verify",
               "Hold every tensor against every checksum in its file; no daemon needed"),
           arguments.convert);
  add(Command::kCompletion, "completion", "Print what has a shell complete weightctl's words")
      ->add_option("SHELL", arguments.shell, "Whose")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kShells), std::end(kShells))));
}

// The parser, which writes to what it is given.
struct Parser {
  Arguments arguments;
  double seconds = absl::ToDoubleSeconds(arguments.timeout);
  std::string output = "table";
  CLI::App app{"Looks after weightd, which keeps one copy of each model's weights on a node.",
               "weightctl"};

  Parser() {
    app.footer(kFooter);
    app.set_version_flag("--version", VersionText("weightctl"));
    app.require_subcommand(1);
    app.add_option("--socket-dir", arguments.socket_dir, "Folder of the daemon's sockets")
        ->type_name("FILE");
    AddRemote(app, arguments.remote);
    app.add_option("--output,-o", output, "table or json")
        ->check(CLI::IsMember(std::array<std::string, 2>{"table", "json"}));
    app.add_option("--timeout", seconds,
                   "Seconds to wait for an answer of the daemon (health: 3; wait: for the model, "
                   "3600)")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str();
    AddModelCommands(app, arguments);
    AddNodeCommands(app, arguments);
    AddToolCommands(app, arguments);
  }
  Parser(const Parser&) = delete;
};

// `complete -- WORD...`, which no parser may take for anything but words.
bool AsksForCompletion(int argc, const char* const* argv) {
  return argc >= 3 && absl::string_view(argv[1]) == "complete" &&
         absl::string_view(argv[2]) == "--";
}

absl::Status UnknownCommand(const CLI::App& app, const std::string& word) {
  std::vector<std::string> commands;
  for (const CLI::App* const command : app.get_subcommands(nullptr)) {
    commands.push_back(command->get_name());
  }
  const std::string nearest = NearestWord(word, commands);
  return Error(Reason::kInvalidArgument, absl::StrCat("unknown command \"", word, "\""),
               nearest.empty() ? "see weightctl --help"
                               : absl::StrCat("did you mean ", nearest, "? See weightctl --help"));
}

// What the parser found wrong.
absl::Status ParseError(const CLI::App& app, const CLI::Error& error) {
  const std::vector<std::string> left = app.remaining();
  const bool no_command = app.get_subcommands().empty();
  if (no_command && !left.empty() && !absl::StartsWith(left[0], "-")) {
    return UnknownCommand(app, left[0]);
  }
  return Error(Reason::kInvalidArgument, error.what(), "see weightctl --help");
}

absl::Duration TimeoutOf(const Parser& parser) {
  if (parser.app.get_option("--timeout")->count() == 0) {
    if (parser.arguments.command == Command::kHealth) {
      return kProbeTimeout;
    }
    if (parser.arguments.command == Command::kWait) {
      return kWaitTimeout;
    }
  }
  return absl::Seconds(parser.seconds);
}

}  // namespace

absl::StatusOr<Arguments> ParseArguments(int argc, const char* const* argv) {
  Parser parser;
  Arguments& arguments = parser.arguments;
  if (AsksForCompletion(argc, argv)) {
    arguments.command = Command::kComplete;
    arguments.words.assign(argv + 3, argv + argc);
    return std::move(arguments);
  }
  // CLI11 speaks in exceptions; they end here.
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_text) {
    std::ostringstream text;
    parser.app.exit(asked_for_text, text, text);
    arguments.command = Command::kPrintText;
    arguments.text = text.str();
    return std::move(arguments);
  } catch (const CLI::Error& error) {
    return ParseError(parser.app, error);
  }
  arguments.json = parser.output == "json";
  arguments.timeout = TimeoutOf(parser);
  return std::move(arguments);
}

CommandLineForm DescribeCommandLine() {
  const Parser parser;
  return FormOf(parser.app);
}

bool WantsJson(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--output=json" || argument == "-ojson") {
      return true;
    }
    if ((argument == "--output" || argument == "-o") && i + 1 < argc) {
      return absl::string_view(argv[i + 1]) == "json";
    }
  }
  return false;
}

}  // namespace weightd::cli
