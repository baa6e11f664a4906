#include "client/cli/command_line_form.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"

namespace weightd::cli {
namespace {

// CLI11 names a set of words only in its help: "TEXT:{table,json}".
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{');
  const size_t end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    return {};
  }
  return absl::StrSplit(type.substr(begin + 1, end - begin - 1), ',', absl::SkipEmpty());
}

WordKind KindOf(const CLI::Option& option, const std::string& name) {
  if (name == "MODEL" || option.get_type_name() == "MODEL") {
    return WordKind::kModel;
  }
  const bool is_file = name == "FILE" || name == "IN" || name == "OUT";
  return is_file || option.get_type_name() == "FILE" ? WordKind::kFile : WordKind::kAnything;
}

OptionForm FormOf(const CLI::Option& option) {
  OptionForm form;
  for (const std::string& name : option.get_lnames()) {
    form.names.push_back("--" + name);
  }
  for (const std::string& name : option.get_snames()) {
    form.names.push_back("-" + name);
  }
  if (form.names.empty()) {
    form.names.push_back(option.get_name());
  }
  // One line.
  form.what = option.get_description().substr(0, option.get_description().find('\n'));
  form.takes_word = option.get_items_expected_max() > 0;
  form.choices = ChoicesOf(option);
  form.kind = KindOf(option, form.names.front());
  return form;
}

}  // namespace

CommandLineForm FormOf(const CLI::App& app) {
  CommandLineForm form;
  for (const CLI::Option* const option : app.get_options()) {
    form.options.push_back(FormOf(*option));
  }
  for (const CLI::App* const subcommand : app.get_subcommands({})) {
    CommandForm command;
    command.name = subcommand->get_name();
    command.what = subcommand->get_description();
    for (const CLI::Option* const option : subcommand->get_options()) {
      if (option->get_positional()) {
        command.words.push_back(FormOf(*option));
      } else {
        command.options.push_back(FormOf(*option));
      }
    }
    form.commands.push_back(std::move(command));
  }
  return form;
}

}  // namespace weightd::cli
