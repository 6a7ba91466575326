"""Writes the bundled help-desk set: messages with an intent, an urgency, duplicate pairs and entities.

Run `python scripts/make_helpdesk.py` to write softcue/data/helpdesk again; the same templates give the same
bytes.
"""

import json
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "helpdesk"
SIZES = {
    "intent": {"train": 480, "dev": 120, "test": 240},
    "urgency": {"train": 480, "dev": 120, "test": 240},
    "duplicates": {"train": 720, "dev": 144, "test": 240},
    "entities": {"train": 400, "dev": 120, "test": 220},
}
POINTS = {
    "impact": (0.0, 1.0, 2.0, 3.2, 4.4),
    "deadline": (0.0, 0.8, 1.8, 3.0, 4.0),
    "relief": (-0.7, 0.0, 0.8),
    "tone": (-0.3, 0.0, 0.5),
}
NOISE = 0.25  # deviation of the urgency, in points: two people would not agree to the decimal
TAGS = {
    "PRODUCT": "PRODUCT",
    "PERSON": "PERSON",
    "DATE": "DATE",
    "WHEN": "DATE",
    "VERSION": "VERSION",
    "ERROR": "ERROR",
    "ORDER": "ORDER",
}

Fillers = Mapping[str, list[str]]
Record = dict[str, Any]

_choice = re.compile(r"\[([^\[\]]*)\]")
_slot = re.compile(r"\{(\w+)\}")
_token = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")


def load(name: str) -> Record:
    """The templates of one task."""
    return tomllib.loads((TEMPLATES / f"{name}.toml").read_text(encoding="utf-8"))


def choose(template: str, draw: random.Random) -> str:
    """The template with one wording taken from every [a|b]."""
    return _choice.sub(lambda found: draw.choice(found[1].split("|")), template)


def fill(template: str, fillers: Fillers, draw: random.Random) -> str:
    """The template as text: wordings chosen, slots filled, the first letter large."""
    text = _slot.sub(lambda found: draw.choice(fillers[found[1]]), choose(template, draw))
    return text[:1].upper() + text[1:]


def mistype(word: str, draw: random.Random) -> str:
    """One slip of the fingers in a word: two letters swapped, one lost or one doubled."""
    at = draw.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return draw.choice([swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]])


def roughen(text: str, draw: random.Random) -> str:
    """The text as people type it: some slips, now and then no capitals or no apostrophes."""
    words = [
        mistype(word, draw) if word.isalpha() and len(word) > 4 and draw.random() < 0.02 else word
        for word in text.split(" ")
    ]
    text = " ".join(words)
    if draw.random() < 0.12:
        text = text.lower()
    return text.replace("'", "") if draw.random() < 0.1 else text


def frame(parts: list[str], slots: Record, draw: random.Random) -> str:
    """Sentences between a greeting and a closing, either of which may be empty."""
    opener, closer = (
        fill(draw.choice(slots["frame"][name]), slots["fillers"], draw) for name in ("opener", "closer")
    )
    return roughen(" ".join(part for part in (opener, *parts, closer) if part), draw)


def intent(split: str, draw: random.Random) -> Iterator[Record]:
    """A message asks for one thing and, two times in five, mentions another that it does not ask for."""
    table, asides, slots = load("intent"), load("asides"), load("slots")
    labels = sorted(table)
    for turn in range(sys.maxsize):
        label = labels[turn % len(labels)]
        parts = [fill(draw.choice(table[label][split]), slots["fillers"], draw)]
        if draw.random() < 0.4:
            other = draw.choice([name for name in labels if name != label])
            aside = fill(draw.choice(asides[other][split]), slots["fillers"], draw)
            parts.insert(draw.randrange(2), aside)
        yield {"text": frame(parts, slots, draw), "label": label}


def urgency(split: str, draw: random.Random) -> Iterator[Record]:
    """A problem and the facts that say how urgent it is; the label is the sum of the facts'
    points, from 0 to 10.
    """
    table, slots = load("urgency"), load("slots")
    while True:
        facts, score = [], 0.6
        for name, points in POINTS.items():
            level = draw.randrange(len(points))
            # a fact that is not stated counts as the ordinary case, level 1
            if name in ("impact", "deadline") or draw.random() < 0.6:
                facts.append(fill(draw.choice(table[name][str(level)][split]), slots["fillers"], draw))
                score += points[level]
            else:
                score += points[1]
        draw.shuffle(facts)
        parts = [fill(draw.choice(table["problem"][split]), slots["fillers"], draw), *facts]
        label = round(min(10.0, max(0.0, score + draw.gauss(0.0, NOISE))), 1)
        yield {"text": frame([part for part in parts if part], slots, draw), "label": label}


def duplicates(split: str, draw: random.Random) -> Iterator[Record]:
    """Two messages about one issue, or about two issues; half of the latter share their subject
    and many words.
    """
    groups, slots = load("duplicates")[split], load("slots")
    same = [pair for group in groups for issue in group for pair in combinations(issue, 2)]
    near = [(a, b) for group in groups for one, two in combinations(group, 2) for a in one for b in two]
    far = [
        (a, b)
        for one, two in combinations(groups, 2)
        for first in one
        for second in two
        for a, b in zip(first, second, strict=True)
    ]
    for pairs in (same, near, far):
        draw.shuffle(pairs)
    for turn in range(sys.maxsize):
        pairs = same if turn % 2 == 0 else near if turn % 4 == 1 else far
        pair = pairs[turn // (2 if pairs is same else 4) % len(pairs)]
        one, two = (frame([fill(text, slots["fillers"], draw)], slots, draw) for text in draw.sample(pair, 2))
        yield {"text": one, "text_pair": two, "label": "duplicate" if pairs is same else "not_duplicate"}


def entities(split: str, draw: random.Random) -> Iterator[Record]:
    """A message in words, with the IOB2 tags of its products, persons, dates, versions, errors and orders."""
    table = load("entities")
    fillers = {name: table[name][split] + table[name]["all"] for name in TAGS} | table["other"]
    while True:
        tokens: list[str] = []
        tags: list[str] = []
        for template in (
            draw.choice(table["frame"]["opener"]),
            draw.choice(table["messages"][split]),
            draw.choice(table["frame"]["closer"]),
        ):
            for at, piece in enumerate(_slot.split(choose(template, draw))):
                words = _token.findall(piece) if at % 2 == 0 else draw.choice(fillers[piece]).split(" ")
                marked = at % 2 == 1 and piece in TAGS
                tokens += [
                    mistype(word, draw) if at % 2 == 0 and len(word) > 5 and draw.random() < 0.02 else word
                    for word in words
                ]
                tags += [f"{'I' if i else 'B'}-{TAGS[piece]}" if marked else "O" for i in range(len(words))]
        if draw.random() < 0.12:
            tokens = [token.lower() for token in tokens]
        yield {"tokens": tokens, "tags": tags}


MAKERS: dict[str, Callable[[str, random.Random], Iterator[Record]]] = {
    "intent": intent,
    "urgency": urgency,
    "duplicates": duplicates,
    "entities": entities,
}


def records(task: str, split: str) -> list[Record]:
    """The records of one file, no two of them alike, in random order."""
    draw = random.Random(f"helpdesk/{task}/{split}")
    found: dict[str, Record] = {}
    maker = MAKERS[task](split, draw)
    while len(found) < SIZES[task][split]:
        record = next(maker)
        found.setdefault(json.dumps([record.get(key) for key in ("text", "text_pair", "tokens")]), record)
    kept = list(found.values())
    draw.shuffle(kept)
    return kept


def write(folder: Path) -> None:
    """Write <folder>/<task>/<split>.jsonl for every task and split."""
    for task, sizes in SIZES.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split in sizes:
            lines = [
                json.dumps(record, ensure_ascii=False, separators=(", ", ": ")) + "\n"
                for record in records(task, split)
            ]
            (folder / task / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(ROOT / "softcue" / "data" / "helpdesk")
