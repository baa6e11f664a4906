#ifndef WEIGHTD_CLIENT_CLI_COMPLETION_H_
#define WEIGHTD_CLIENT_CLI_COMPLETION_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

// What a shell offers when the user presses Tab. The scripts that shells read are short and ask
// `weightctl complete` for what may follow, so that they are never older than the command.

namespace weightd::cli {

// What a word of a command line may be.
enum class WordKind { kAnything, kModel, kFile };

struct OptionForm {
  // "--output", "-o".
  std::vector<std::string> names;
  std::string what;
  // Whether a word follows it, and which ones it may be; if none is listed, its kind.
  bool takes_word = false;
  std::vector<std::string> choices;
  WordKind kind = WordKind::kAnything;
};

struct CommandForm {
  std::string name;
  std::string what;
  std::vector<OptionForm> options;
  // Words that are no options, in order, each with what it may be.
  std::vector<OptionForm> words;
};

// Commands, and options that go with all of them.
struct CommandLineForm {
  std::vector<OptionForm> options;
  std::vector<CommandForm> commands;
};

struct Candidate {
  std::string word;
  std::string what;
};

struct Completion {
  std::vector<Candidate> candidates;
  // Whether models' names, and files' names, may follow, too.
  bool models = false;
  bool files = false;
  // What was typed of the last word, and what stands before it in it ("--gpu="), which candidates
  // have, too.
  std::string typed;
  std::string before;
  // Words that follow options on the line, by the option's first name.
  std::map<std::string, std::string> options;
};

// What may become of the last of `words`, which may be empty. The words begin after the program.
Completion Complete(const CommandLineForm& form, const std::vector<std::string>& words);

// Where `name` begins with what was typed, it is added.
void Offer(absl::string_view name, absl::string_view what, Completion& completion);

inline constexpr const char* kShells[] = {"bash", "zsh", "fish"};

// What one of kShells reads.
std::string CompletionScript(absl::string_view shell);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_COMPLETION_H_
