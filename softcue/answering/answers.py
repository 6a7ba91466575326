"""Requests to items and logits to answers, for each kind of task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from softcue.errors import RequestError
from softcue.readers.items import Item, Reading, make_items
from softcue.readers.records import Record
from softcue.readers.values import MOST_CHOICES
from softcue.scoring.entities import spans, to_iob2
from softcue.text.tokens import Text

# marks that may stand in front of a word without a space
OPENING = frozenset("([{<\"'`\u2018\u201c\u201e\u00ab\u00bf\u00a1")
CLOSING = frozenset(".,;:!?)]}>\"'`\u2019\u201d\u00bb\u2026%")  # marks that may follow one
APART = frozenset(".,")  # marks that no writer puts a space before, as some do before ? and !
REQUEST_INPUTS = ("text", "text_pair", "choices", "tokens")


@dataclass(frozen=True)
class Question:
    """One request, ready for the encoder, with what its answer needs."""

    item: Item
    record: Record
    reading: Reading
    text: str
    offset: tuple[tuple[int, int], ...] = ()  # of each word in `text` (tagging)


def ask(request: Mapping[str, Any], reading: Reading, pair: bool, text: Text) -> Question:
    """Make a request into one item. Raises RequestError where its fields do not fit the adapter's kind."""
    record, raw, offset = READ[reading.kind](request, pair, text)
    return Question(make_items([record], text, reading)[0], record, reading, raw, offset)


def say(answer: Tensor, question: Question) -> dict[str, Any]:
    """Return an answer as JSON-ready values.

    (C,), (), (choices,) or (words, C) -> a dictionary.
    """
    return SAY[question.reading.kind](answer, question)


ParsedRequest = tuple[Record, str, tuple[tuple[int, int], ...]]


def _inputs(request: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Refuse a request that does not give exactly the wanted inputs, as they should be."""
    given = [name for name in REQUEST_INPUTS if request.get(name) is not None]
    if set(given) != set(wanted):
        raise RequestError(f"gives {', '.join(given) or 'no input'}; expected {' and '.join(wanted)}")
    for name in wanted:
        value = request[name]
        if name in ("text", "text_pair"):
            if not isinstance(value, str) or not value.strip():
                raise RequestError(f"{name} is {value!r:.60}; expected a text that is not empty")
        elif not (
            isinstance(value, list | tuple) and value and all(isinstance(v, str) and v.strip() for v in value)
        ):
            raise RequestError(f"{name} is {value!r:.60}; expected a list of texts, none of them empty")


def _read_text(request: Mapping[str, Any], pair: bool, text: Text) -> ParsedRequest:
    _inputs(request, ("text", "text_pair") if pair else ("text",))
    return Record(text=request["text"], pair=request.get("text_pair")), request["text"], ()


def _read_choice(request: Mapping[str, Any], pair: bool, text: Text) -> ParsedRequest:
    _inputs(request, ("text", "choices"))
    if len(request["choices"]) > MOST_CHOICES:
        raise RequestError(f"gives {len(request['choices']):,} choices; expected at most {MOST_CHOICES:,}")
    return Record(text=request["text"], choices=tuple(request["choices"])), request["text"], ()


def _read_words(request: Mapping[str, Any], pair: bool, text: Text) -> ParsedRequest:
    """Read given tokens, or split a raw text by the tokenizer's own pre-tokenizer.

    Given tokens stand in their text with a space between.
    """
    if request.get("tokens") is None:
        _inputs(request, ("text",))
        raw = request["text"]
        offset = tuple(text.split_words(raw))
        if not offset:
            raise RequestError(f"text is {raw!r:.60}, which the tokenizer finds no word in")
    else:
        _inputs(request, ("tokens",))
        raw, at, spots = " ".join(request["tokens"]), 0, []
        for word in request["tokens"]:
            spots.append((at, at + len(word)))
            at += len(word) + 1
        offset = tuple(spots)
    return Record(text=request.get("text"), tokens=tuple(raw[a:b] for a, b in offset)), raw, offset


def _say_label(answer: Tensor, question: Question) -> dict[str, Any]:
    labels = question.reading.labels
    chances = dict(zip(labels, answer[: len(labels)].tolist(), strict=True))
    best = max(chances, key=lambda label: chances[label])
    return {"label": best, "score": chances[best], "scores": chances}


def _say_value(answer: Tensor, question: Question) -> dict[str, Any]:
    return {"value": float(answer) * question.reading.spread + question.reading.centre}


def _say_choice(answer: Tensor, question: Question) -> dict[str, Any]:
    return {"choice": int(answer.argmax()), "scores": answer.tolist()}


def _say_entities(answer: Tensor, question: Question) -> dict[str, Any]:
    """Return entities as the Hugging Face token-classification pipeline gives them.

    score: the mean probability of the words' tags.
    """
    labels = question.reading.labels
    chance, best = answer[:, : len(labels)].max(-1)
    given = question.record.text is None  # of a raw text's units the caller knows nothing
    words = [(word, word + 1) for word in range(len(best))]
    if not given:
        words = raw_words(question, [labels[i] == "O" for i in best.tolist()])
    # a word is answered by its first unit, as it is where words are given
    firsts = [first for first, _ in words]
    tags = to_iob2([labels[i] for i in best[firsts].tolist()])
    entities = []
    for kind, first, end in spans(tags):
        a, b = question.offset[words[first][0]][0], question.offset[words[end - 1][1] - 1][1]
        score = float(chance[firsts[first:end]].mean())
        entities.append(
            {"entity_group": kind, "score": score, "word": question.text[a:b], "start": a, "end": b}
        )
    return {"entities": entities, "tags": list(tags)} if given else {"entities": entities}


def raw_words(question: Question, outside: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the units (first, one past the last) of each word of a raw text.

    A word is what stands together, less the marks at its ends that are no part of it.

    outside: for each unit whether its own tag is "O". Training gives a mark inside a word the word's tag, as
    in "U.S.", and a mark that was a word of its own most often "O", as in "Monday ."; so a mark at the end
    that is tagged "O" is cut off. A text in which a stop or a comma stands alone, as in "Monday .", is split
    already: what stands together there is one word, as in the tokens before it.
    """
    offset, text = question.offset, question.text
    if is_split(text):
        outside = [False] * len(offset)
    starts = [unit for unit in range(len(offset)) if unit == 0 or offset[unit - 1][1] < offset[unit][0]]
    words: list[tuple[int, int]] = []
    for first, end in zip(starts, (*starts[1:], len(offset)), strict=True):
        stop = end
        while stop - first > 1 and outside[stop - 1] and text[slice(*offset[stop - 1])] in CLOSING:
            stop -= 1
        while stop - first > 1 and outside[first] and text[slice(*offset[first])] in OPENING:
            words.append((first, first + 1))
            first += 1
        words.append((first, stop))
        words += [(unit, unit + 1) for unit in range(stop, end)]
    return words


def is_split(text: str) -> bool:
    """Say whether a program has split the text into words.

    There a full stop or a comma stands alone, as in "on Monday ." or "yes , but".
    """
    return any(word in APART for word in text.split()[1:])


READ: dict[str, Callable[[Mapping[str, Any], bool, Text], ParsedRequest]] = {
    "classify": _read_text,
    "score": _read_text,
    "choice": _read_choice,
    "tag": _read_words,
}
SAY: dict[str, Callable[[Tensor, Question], dict[str, Any]]] = {
    "classify": _say_label,
    "score": _say_value,
    "choice": _say_choice,
    "tag": _say_entities,
}
