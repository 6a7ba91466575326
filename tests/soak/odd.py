"""Odd files that a program or a person may well have written: sound ones, and ones with something missing.

The same number is the same file. What was written is known, so that a row that is dropped in silence shows.
"""

import csv
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.soak.mutate import ODD

PIECES = (
    "an owl",
    "Gold, tin; lead",
    'she said "no"',
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",  # right to left
    "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family, joined by zero-width joiners
    "zero\u200bwidth\ufeff",
    "soft\u00adhyphen",
    "e\u0301tude",  # a letter and a mark
    "\u00bd cup",  # one character that normalisation makes three of
    "na\u00efve caf\u00e9",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c",
    "\ufb01ne",  # a ligature
    "U.S.-born",
    "<b>&amp;</b>",
    "\u2028line\u2028",
    "x" * 300,
)
DROPPED = ("\u200b", "\u00ad", "\ufe0f", "\u200e", "\u0301")  # words that tokenizers have no token for
LABELS = (
    "yes",
    "no",
    "007",
    "-1",
    "\u00e9t\u00e9",
    "\U0001f600",
    "N/A",
    "null",
    "a,b",
    'say "x"',
    "O",
    "true",
)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "windows-1252", "iso-8859-15")
ENDS = ("\n", "\n", "\r\n", "\r")
FORMATS = ("csv", ";csv", "\tcsv", "tsv", "jsonl", "json", "conll", "xlsx")


@dataclass(frozen=True)
class OddFile:
    """A file's bytes, how it is to be read, and the rows that were written."""

    name: str
    data: bytes
    encoding: str | None  # that has to be said
    rows: tuple[tuple[Any, ...], ...]  # (text, label), or (tokens, tags)
    sound: bool  # nothing is missing, and nothing is there that the format cannot hold


def odd_file(number: int) -> OddFile:
    """The odd file of this number."""
    chance = random.Random(f"softcue odd {number}")
    form = chance.choice(FORMATS)
    encoding, end = chance.choice(ENCODINGS), chance.choice(ENDS)
    missing = chance.random() < 0.3
    count = chance.randint(1, 8)
    pieces = (*PIECES, *DROPPED, *(ODD if chance.random() < 0.3 else ()))
    if form == "conll":
        rows = tuple(_sentence(pieces, chance) for _ in range(count))
        body = (end * 2).join(end.join(f"{w} {t}" for w, t in zip(*row, strict=True)) for row in rows) + end
        sound = all(word.strip() and _whole(word) for row in rows for word in row[0])
        sound = sound and not {tag for row in rows for tag in row[1]} & {"E-X", "PER"}
    else:
        rows = tuple((_text(pieces, chance), chance.choice(LABELS)) for _ in range(count))
        if missing:
            at = chance.randrange(count)
            text, label = rows[at]
            rows = (*rows[:at], chance.choice((("", label), (" ", label), (text, ""))), *rows[at + 1 :])
        body = _body(form, rows, end, chance)
        sound = not missing and all(text.strip() and _whole(text) for text, _ in rows)
        if form in ("tsv", "xlsx"):
            sound = sound and not any(set(text) & set("\t\r\n") for text, _ in rows)
    sound = sound and (end != "\r" or form in ("json", "xlsx"))
    name = f"odd.{form.lstrip(';' + chr(9))}"
    if form == "xlsx":
        return OddFile(name, _workbook(rows), None, rows, sound)
    data = body.encode(encoding, "replace")
    sound = sound and data.decode(encoding) == body and not body.startswith("\ufeff")
    return OddFile(name, data, encoding if encoding in ENCODINGS[5:] else None, rows, sound)


def odd_texts(count: int) -> list[str]:
    """Texts of odd words, some of which a tokenizer drops."""
    chance = random.Random("softcue odd texts")
    return [_text((*PIECES, *DROPPED, *ODD), chance) for _ in range(count)]


def _text(pieces: Sequence[str], chance: random.Random) -> str:
    return chance.choice((" ", "", ", ")).join(chance.choices(pieces, k=chance.randint(1, 6)))


def _sentence(pieces: Sequence[str], chance: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words = tuple(chance.choice(pieces).replace(" ", "_") or "x" for _ in range(chance.randint(1, 6)))
    tags = ("O", "B-PER", "I-PER", "B-\u00e9", *(("E-X", "PER") if chance.random() < 0.1 else ()))
    return words, tuple(chance.choice(tags) for _ in words)


def _whole(text: str) -> bool:
    """Say whether every format can hold a text."""
    return not any(letter in "\0\r\n\t\v\f" or "\x00" <= letter < " " for letter in text)


def _body(form: str, rows: tuple[tuple[str, str], ...], end: str, chance: random.Random) -> str:
    objects = [{"text": text, "label": label} for text, label in rows]
    plain = chance.random() < 0.5
    if form == "json":
        return json.dumps(objects, ensure_ascii=plain, indent=chance.choice((None, 1))).replace("\n", end)
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=plain) + end for row in objects)
    if form == "tsv":
        return "".join("\t".join(row) + end for row in (("text", "label"), *rows))
    file = io.StringIO()
    writer = csv.writer(file, delimiter="," if form == "csv" else form[0], lineterminator=end)
    writer.writerows([("Text", "LABEL"), *rows])
    return file.getvalue()


def _workbook(rows: tuple[tuple[str, str], ...]) -> bytes:
    import openpyxl
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = openpyxl.Workbook()
    for row in (("text", "label"), *rows):
        book.active.append([ILLEGAL_CHARACTERS_RE.sub("", cell) for cell in row])
        for cell in book.active[book.active.max_row]:
            cell.data_type = "s"  # "=cmd()" is a text
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()
