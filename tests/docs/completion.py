"""The files by which shells complete commands, written from the parser.

    python -m tests.docs.completion

A shell looks at no parser, and starts no Python for a key: what it offers is a table. Each file has
the same three things: which words lead from one command to the next, what may stand behind a
command, and what may stand behind an option.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from web.cli.parser import MEASURES, SHELLS, build_parser
from web.cli.running.examples import EXAMPLES
from web.cli.running.exercises import EXERCISES

FOLDER = Path(__file__).parents[2] / "web" / "cli" / "completion"
COMMAND = "python -m tests.docs.completion"
NOTE = f"# Written by `{COMMAND}`, from the parser."

# What may stand there, though another word is no mistake of the parser's: it ends with 3 and near
# ones. By command and, where it is an option's, the option.
NAMED = {
    ("example", ""): {name: one.shows for name, one in EXAMPLES.items()},
    ("exercise", ""): EXERCISES,
    ("bench", "--only"): dict.fromkeys(MEASURES, ""),
}


@dataclass
class Place:
    """What may stand behind a command: words with what they do, and the values of options.

    An option without values of its own has None: a file, or what somebody knows.
    """

    words: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[str] | None] = field(default_factory=dict)


def places(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, Place]]:
    """Call this for every command, the groups too, by its words."""
    place, below = Place(), list[tuple[str, argparse.ArgumentParser]]()
    place.words |= NAMED.get((path, ""), {})
    for action in parser._actions:  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):
            helps = {one.dest: one.help or "" for one in action._choices_actions}
            place.words |= {name: helps[name] for name in action.choices}
            below += [(f"{path} {name}".strip(), one) for name, one in action.choices.items()]
        elif not action.option_strings:
            place.words |= dict.fromkeys(map(str, action.choices or ()), action.help or "")
        else:
            place.words |= dict.fromkeys(action.option_strings[-1:], action.help or "")
            if action.nargs != 0:
                values = None if action.choices is None else [str(one) for one in action.choices]
                values = [*NAMED.get((path, action.option_strings[-1]), ())] or values
                place.values |= dict.fromkeys(action.option_strings, values)
    yield path, place
    for name, one in below:
        yield from places(one, name)


def bash(found: dict[str, Place]) -> str:
    """Call this for the file of bash."""
    ways = "|".join(f'"{path}"' for path in found if path)
    lines = [
        NOTE,
        "# In ~/.bashrc: source <(greenroom completion bash)",
        "_greenroom() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local path="" at next words=""',
        "    for ((at = 1; at < COMP_CWORD; at++)); do",
        '        next="${path:+$path }${COMP_WORDS[at]}"',
        f'        case "$next" in {ways}) path="$next" ;; esac',
        "    done",
        "    # An = between option and value is a word of its own here.",
        '    if [[ "$word" == = ]]; then word="";',
        '    elif [[ "$before" == = ]]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi',
        '    case "$path:$before" in',
        *(
            f'        "{path}:{option}") words="{" ".join(values or ())}" ;;'
            for path, place in found.items()
            for option, values in place.values.items()
        ),
        '        *) case "$path" in',
        *(
            f'            "{path}") words="{" ".join(place.words)}" ;;'
            for path, place in found.items()
        ),
        "        esac ;;",
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o default -F _greenroom greenroom",
    ]
    return "\n".join(lines) + "\n"


def zsh(found: dict[str, Place]) -> str:
    """Call this for the file of zsh."""
    ways = "|".join(f'"{path}"' for path in found if path)
    lines = [
        "#compdef greenroom",
        NOTE,
        "# In ~/.zshrc, behind compinit: source <(greenroom completion zsh)",
        "_greenroom() {",
        '    local before="${words[CURRENT - 1]}" path_="" next',
        "    local -a found",
        "    local -i at",
        "    for ((at = 2; at < CURRENT; at++)); do",
        '        next="${path_:+$path_ }${words[at]}"',
        f'        case "$next" in ({ways}) path_="$next" ;; esac',
        "    done",
        '    case "$path_:$before" in',
        *(
            f'        ("{path}:{option}") '
            + (f"found=({_quoted(values)})" if values else "_files; return")
            + " ;;"
            for path, place in found.items()
            for option, values in place.values.items()
        ),
        '        (*) case "$path_" in',
        *(
            f'            ("{path}") found=({_quoted(_told(place))}) ;;'
            for path, place in found.items()
        ),
        "        esac ;;",
        "    esac",
        "    _describe greenroom found || _files",
        "}",
        "compdef _greenroom greenroom",
    ]
    return "\n".join(lines) + "\n"


def _told(place: Place) -> list[str]:
    return [f"{word}:{words.replace(':', ' -')}" for word, words in place.words.items()]


def _quoted(texts: list[str]) -> str:
    return " ".join("'" + text.replace("'", "'\\''") + "'" for text in texts)


def fish(found: dict[str, Place]) -> str:
    """Call this for the file of fish."""
    ways = " ".join(f"'{path}'" for path in found if path)
    lines = [
        NOTE,
        "# greenroom completion fish > ~/.config/fish/completions/greenroom.fish",
        "function __greenroom_at",
        "    set -l path ''",
        "    for word in (commandline -opc)[2..]",
        '        set -l next (string trim -- "$path $word")',
        f'        contains -- "$next" {ways}; and set path "$next"',
        "    end",
        '    test "$path" = "$argv[1]"',
        "end",
        "complete -c greenroom -e",
    ]
    for path, place in found.items():
        at = f"complete -c greenroom -n \"__greenroom_at '{path}'\""
        for word, words in place.words.items():
            told = f"-d {_quoted([words])}"
            if word == "-h" or not word.startswith("--"):
                lines.append(f"{at} -f -a {word} {told}")
            elif word not in place.values:
                lines.append(f"{at} -f -l {word[2:]} {told}")
            elif values := place.values[word]:
                lines.append(f"{at} -x -l {word[2:]} -a '{' '.join(values)}' {told}")
            else:
                lines.append(f"{at} -r -l {word[2:]} {told}")
    return "\n".join(lines) + "\n"


_WRITERS = {"bash": bash, "zsh": zsh, "fish": fish}


def files() -> dict[Path, str]:
    """Call this for all files as they should be."""
    found = dict(places(build_parser()))
    return {FOLDER / f"greenroom.{shell}": _WRITERS[shell](found) for shell in SHELLS}


if __name__ == "__main__":
    for file, text in files().items():
        file.write_text(text)
