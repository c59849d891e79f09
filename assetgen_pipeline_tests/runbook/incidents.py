"""The incidents of docs/operations.md, and their commands run as they stand there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
SECTIONS = ("Check", "Act", "Verify")


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident: its number and title, and the commands of each of its sections."""

    number: str
    title: str
    commands: dict[str, tuple[str, ...]]


def incidents():
    """Every incident of the runbook, by number."""
    text = OPERATIONS.read_text(encoding="utf-8")
    parts = re.split(r"^## (?=RB-\d\d )|^## (?!RB-)", text, flags=re.MULTILINE)
    found = {}
    for part in parts:
        heading = re.match(r"RB-(\d\d) (.+)", part)
        if heading:
            commands = {name: _commands(part, name) for name in SECTIONS}
            found[heading[1]] = Incident(heading[1], heading[2], commands)
    return found


def _commands(part, section):
    body = re.search(rf"^\*\*{section}\*\*(.*?)(?=^\*\*|\Z)", part, flags=re.MULTILINE | re.DOTALL)
    assert body, f"no {section} in {part.splitlines()[0]}"
    blocks = re.findall(r"^```\n(.*?)^```", body[1], flags=re.MULTILINE | re.DOTALL)
    return tuple(line for block in blocks for line in block.splitlines() if line)


class Responder:
    """Follows one incident in one HOME, with the placeholders filled in."""

    def __init__(self, number, home, **words):
        self.incident = incidents()[number]
        self.home = home
        self.words = words

    def follow(self, section, *chosen, **settings):
        """Run a section's commands, or those of them that begin so; their answers."""
        lines = self._lines(section, chosen)
        return [self.home.run(*self._words(line), **settings) for line in lines]

    def start(self, section, chosen):
        """Start one command of a section that stays, with its document on stdout."""
        [line] = self._lines(section, [chosen])
        return self.home.start(*self._words(line), "--json")

    def _lines(self, section, chosen):
        lines = self.incident.commands[section]
        if chosen:
            begins = tuple(f"assetgen {words}" for words in chosen)
            lines = [line for line in lines if line.startswith(begins)]
            assert len(lines) >= len(chosen), f"{chosen} is not what the runbook says"
        return lines

    def _words(self, line):
        program, *words = shlex.split(line)
        assert program == "assetgen"
        return [self.words.get(word, word) for word in words]
