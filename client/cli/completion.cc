#include "client/cli/completion.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace weightd::cli {
namespace {

bool IsOption(const std::string& word) { return word.size() > 1 && word.front() == '-'; }

// Goes along the words that are complete, and knows what comes next.
class Reader {
 public:
  explicit Reader(const CommandLineForm& form) : form_(form) {}

  void Read(const std::string& word, Completion& completion) {
    if (expected_ != nullptr) {
      completion.options[expected_->names.front()] = word;
      expected_ = nullptr;
    } else if (word == "--" && !only_words_) {
      only_words_ = true;
    } else if (IsOption(word) && !only_words_) {
      ReadOption(word, completion);
    } else if (command_ == nullptr) {
      command_ = FindCommand(word);
      is_lost_ = is_lost_ || command_ == nullptr;
    } else {
      ++words_read_;
    }
  }

  // What the next word may be.
  void Next(const std::string& word, Completion& completion) const {
    if (expected_ != nullptr) {
      OfferWord(*expected_, completion);
    } else if (IsOption(word) && !only_words_) {
      NextOption(word, completion);
    } else if (word == "-" && !only_words_) {
      OfferOptions(completion);
    } else if (command_ != nullptr) {
      if (words_read_ < command_->words.size()) {
        OfferWord(command_->words[words_read_], completion);
      }
    } else if (!is_lost_) {
      for (const CommandForm& command : form_.commands) {
        Offer(command.name, command.what, completion);
      }
    }
  }

 private:
  const CommandForm* FindCommand(const std::string& name) const {
    const auto found = std::find_if(form_.commands.begin(), form_.commands.end(),
                                    [&](const CommandForm& form) { return form.name == name; });
    return found == form_.commands.end() ? nullptr : &*found;
  }

  const OptionForm* FindOption(absl::string_view name) const {
    const auto find = [&](const std::vector<OptionForm>& options) -> const OptionForm* {
      for (const OptionForm& option : options) {
        if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) {
          return &option;
        }
      }
      return nullptr;
    };
    const OptionForm* const own = command_ == nullptr ? nullptr : find(command_->options);
    return own != nullptr ? own : find(form_.options);
  }

  void ReadOption(const std::string& word, Completion& completion) {
    const size_t equals = word.find('=');
    const OptionForm* const option = FindOption(word.substr(0, equals));
    if (option == nullptr || !option->takes_word) {
      return;
    }
    if (equals == std::string::npos) {
      expected_ = option;
    } else {
      completion.options[option->names.front()] = word.substr(equals + 1);
    }
  }

  void NextOption(const std::string& word, Completion& completion) const {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      OfferOptions(completion);
      return;
    }
    const OptionForm* const option = FindOption(word.substr(0, equals));
    if (option != nullptr && option->takes_word) {
      completion.before = word.substr(0, equals + 1);
      completion.typed = word.substr(equals + 1);
      OfferWord(*option, completion);
    }
  }

  void OfferOptions(Completion& completion) const {
    const auto offer = [&](const std::vector<OptionForm>& options) {
      for (const OptionForm& option : options) {
        Offer(option.names.front(), option.what, completion);
      }
    };
    if (command_ != nullptr) {
      offer(command_->options);
    }
    offer(form_.options);
  }

  static void OfferWord(const OptionForm& form, Completion& completion) {
    for (const std::string& choice : form.choices) {
      Offer(choice, "", completion);
    }
    completion.models = form.kind == WordKind::kModel;
    // A model may be a local file.
    completion.files = form.kind != WordKind::kAnything;
  }

  const CommandLineForm& form_;
  const CommandForm* command_ = nullptr;
  // An option whose word comes next.
  const OptionForm* expected_ = nullptr;
  size_t words_read_ = 0;
  bool only_words_ = false;
  // Something stands where a command should.
  bool is_lost_ = false;
};

constexpr char kBash[] = R"(# weightctl in bash: . <(weightctl completion bash)
_weightctl() {
  local line=${COMP_LINE:0:COMP_POINT} word rest breaks='' answer
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  word=${words[-1]}
  # Bash replaces only what follows the last of these in a word.
  [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
  [[ $COMP_WORDBREAKS == *=* ]] && breaks+==
  rest=''
  [[ -n $breaks && $word == *["$breaks"]* ]] && rest=${word%"${word##*["$breaks"]}"}
  COMPREPLY=()
  while IFS=$'\t' read -r answer _; do
    if [[ $answer == :files ]]; then
      compopt -o default -o bashdefault 2>/dev/null
    else
      COMPREPLY+=("${answer#"$rest"}")
    fi
  done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _weightctl weightctl
)";

constexpr char kZsh[] = R"(#compdef weightctl
# weightctl in zsh: . <(weightctl completion zsh), or as a file _weightctl in $fpath
_weightctl() {
  local word what files=0
  local -a candidates
  while IFS=$'\t' read -r word what; do
    if [[ $word == :files ]]; then
      files=1
    elif [[ -n $word ]]; then
      candidates+=("${word//:/\\:}:$what")
    fi
  done < <("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  (( ${#candidates} )) && _describe weightctl candidates
  (( files )) && _files
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _weightctl "$@"
else
  compdef _weightctl weightctl
fi
)";

constexpr char kFish[] = R"(# weightctl in fish: weightctl completion fish | source
function __weightctl_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c weightctl -f -a '(__weightctl_complete)'
)";

}  // namespace

Completion Complete(const CommandLineForm& form, const std::vector<std::string>& words) {
  Completion completion;
  Reader reader(form);
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    reader.Read(words[i], completion);
  }
  completion.typed = words.empty() ? "" : words.back();
  reader.Next(completion.typed, completion);
  return completion;
}

void Offer(absl::string_view name, absl::string_view what, Completion& completion) {
  if (absl::StartsWith(name, completion.typed)) {
    completion.candidates.push_back({absl::StrCat(completion.before, name), std::string(what)});
  }
}

std::string CompletionScript(absl::string_view shell) {
  return shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish;
}

}  // namespace weightd::cli
