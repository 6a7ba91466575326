"""tag: gives each word a tag, in IOB2, and finds the entities in the tags."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from softcue.errors import RequestError, short
from softcue.kinds.base import READS_WORDS, Counts, Fields, Kind, Tally, register_kind
from softcue.kinds.entities import Scheme, continued, entity_counts, is_tag, spans, split_tag, to_iob2
from softcue.kinds.record import IGNORED, Parsed, QuestionParts, Reading, Record
from softcue.kinds.requests import check_inputs
from softcue.kinds.values import MOST_WORDS, Wrong, as_list, as_text, encodable

if TYPE_CHECKING:
    from torch import Tensor

    from softcue.batch import Batch
    from softcue.text.tokens import Text

# marks that may come before a word without a space
OPENING = frozenset("([{<\"'`\u2018\u201c\u201e\u00ab\u00bf\u00a1")
CLOSING = frozenset(".,;:!?)]}>\"'`\u2019\u201d\u00bb\u2026%")  # marks that may follow one
APART = frozenset(".,")  # marks before which nobody writes a space, as some do before ? and !


class Tag(Kind):
    """Tags each word at its first token; a target is a list of tag numbers, an answer is (words, C)."""

    name = "tag"
    order = 3
    needs = ("tokens", "tags")
    mark = "tokens"
    metrics = ("f1", "precision", "recall")
    task_type = "TOKEN_CLS"
    reads = READS_WORDS
    activation = None
    outputs = (("entities", "BYTES", [-1]),)

    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the tokens and the tags, in any scheme."""
        tokens = tuple(
            as_text(token, f"token {at + 1}")
            for at, token in enumerate(as_list(row.value("tokens"), "tokens"))
        )
        tags = as_list(row.value("tags"), "tags")
        if not tokens:
            raise Wrong("no tokens")
        if len(tokens) > MOST_WORDS:
            raise Wrong(
                f"{len(tokens):,} tokens; expected at most {MOST_WORDS:,}: check that empty lines separate "
                "the sentences"
            )
        if len(tags) != len(tokens):
            raise Wrong(f"{len(tokens)} tokens and {len(tags)} tags; expected one tag for each token")
        for at, tag in enumerate(tags):
            if not isinstance(tag, str) or not is_tag(tag):
                raise Wrong(
                    f"tag {at + 1} is {short(tag)}; expected O, B-TYPE or I-TYPE (or the E-, S-, L-, U- of "
                    "BIOES and BILOU); if tags are numbers, name them with --tag-names"
                )
            encodable(tag, f"tag {at + 1}")
        return {"tokens": tokens, "tags": tuple(map(sys.intern, tags))}

    def settle_file(self, records: list[Record], name: str) -> list[str]:
        """Convert the tags of one file from any scheme to IOB2."""
        scheme, warnings = Scheme(), []
        for record in records:
            scheme.see(record.tags, record.where)
        kind = scheme.name
        if kind != "IOB2":
            warnings.append(f"{name}: tags are {kind}; converted to IOB2")
        if scheme.faults:
            warnings.append(
                f"{name}: repaired {scheme.faults:,} tags that {kind} forbids; the first at "
                f"{scheme.first_fault}"
            )
        if kind == "IOB2" and not scheme.faults:
            return warnings
        for at, record in enumerate(records):
            tags = tuple(map(sys.intern, to_iob2(record.tags)))
            if tags != record.tags:
                records[at] = replace(record, tags=tags)
        return warnings

    def gold(self, record: Record) -> list[str]:
        """Return the tags."""
        return list(record.tags)

    def names_in(self, gold: Any) -> set[str]:
        """Return the tags."""
        return set(gold)

    def labels(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return the tags' names, "O" first."""
        return ("O", *sorted({tag for record in records for tag in record.tags} - {"O"}))

    def reading(
        self, labels: tuple[str, ...], train: Sequence[Record], limit: int, text: Text, source: str
    ) -> Reading:
        """Return a reading whose labels include the tags of the later units of split words.

        Such a tag (I-TYPE after B-TYPE) may be the tag of no whole word in the training rows.
        """
        known = super().reading(labels, train, limit, text, source).labels
        split = {
            continued(tag)
            for record in train
            for word, tag in zip(record.tokens, record.tags, strict=True)
            if len(text.units(word)) > 1
        }
        return Reading(self.name, (*known, *sorted(split - set(known))), limit)

    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return the class numbers of the tags, as one list."""
        return ([number.get(tag, IGNORED) for tag in record.tags],)

    def target(self, values: Sequence[Any], batch: Batch, classes: int) -> Tensor:
        """Return the tag numbers of the words that were not truncated, in the batch's order: (W,)."""
        import torch

        kept = zip(batch.order, batch.words, strict=True)
        return torch.tensor([tag for i, count in kept for tag in values[i][:count]], dtype=torch.long)

    def numbers(self, questions: Sequence[Sequence[Any]]) -> list[int]:
        """Return the class numbers of all words."""
        return [tag for targets in questions for tags in targets for tag in tags if tag != IGNORED]

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the probabilities of the words' tags; the windows of a text follow one another.

        (W, C) -> numbers with (words, C).
        """
        import torch

        chances = logits.softmax(-1).cpu().split(batch.words)
        return [
            (question, torch.cat([chances[i] for i in members]))
            for question, members in batch.questions().items()
        ]

    def ask(self, request: Mapping[str, Any], pair: bool, text: Text) -> Parsed:
        """Read given tokens, or split a raw text with the tokenizer's own pre-tokenizer.

        The text of given tokens is the tokens with a space between them.
        """
        if request.get("tokens") is None:
            check_inputs(request, ("text",))
            raw = request["text"]
            offset = tuple(text.split_words(raw))
            if not offset:
                raise RequestError(f"text is {raw!r:.60}, in which the tokenizer finds no word; give a text")
        else:
            check_inputs(request, ("tokens",))
            raw, at, spots = " ".join(request["tokens"]), 0, []
            for word in request["tokens"]:
                spots.append((at, at + len(word)))
                at += len(word) + 1
            offset = tuple(spots)
        tokens = tuple(raw[a:b] for a, b in offset)
        return Parsed(Record(text=request.get("text"), tokens=tokens), raw, offset)

    def say(self, answer: Any, question: QuestionParts) -> dict[str, Any]:
        """Return entities in the form of the Hugging Face token-classification pipeline.

        (words, C) -> a dictionary. score: the mean probability of the words' tags.
        """
        labels = question.reading.labels
        chances = answer[:, : len(labels)]
        chance, best = chances.max(-1), chances.argmax(-1)
        given = question.record.text is None  # otherwise the caller does not know the units of the raw text
        words = [(word, word + 1) for word in range(len(best))]
        if not given:
            words = raw_words(question, [labels[i] == "O" for i in best.tolist()])
            # a word's answer is that of its first unit, as with given tokens
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

    def decide(self, answer: Tensor, reading: Reading) -> list[str]:
        """Return the most probable tag of each word: (words, C)."""
        return [reading.labels[i] for i in answer[:, : len(reading.labels)].argmax(-1).tolist()]

    def by_label(self, gold: Sequence[Any], predicted: Sequence[Any]) -> Mapping[str, Counts]:
        """Count entities by type."""
        return entity_counts(gold, predicted)

    def tally(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> Tally:
        """Count entities by type, and words for the confusion table."""
        wanted = [_word_type(tag) for tags in gold for tag in tags]
        given = [_word_type(tag) for tags in predicted for tag in tags]
        order = ["O", *sorted({*wanted, *given} - {"O"})]
        return Tally(order, entity_counts(gold, predicted), list(zip(wanted, given, strict=True)))

    def places(self, commonest: Any, labels: Sequence[str]) -> list[int]:
        """Return the class number of "O"."""
        return [0]

    def constant(self, record: Record, commonest: Any, row: Tensor) -> Tensor:
        """Return the same row for every word: (C,) -> (words, C)."""
        return row.expand(len(record.tokens), -1)

    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return the entities."""
        return list(value["entities"])

    def tensors(self, values: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Return each text's entities as JSON."""
        told = [json.dumps(value["entities"], ensure_ascii=False, separators=(",", ":")) for value in values]
        return [told]


def raw_words(question: QuestionParts, outside: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the units (first, one past the last) of each word of a raw text.

    A word is a run of characters without spaces, without the punctuation at its ends that does not belong to
    it.

    outside: for each unit whether its own tag is "O". In training, a mark inside a word has the word's tag,
    as in "U.S.", and a mark that is a separate token usually has "O", as in "Monday ."; so a mark at a word's
    end is cut off if its tag is "O". If a full stop or a comma is surrounded by spaces, as in "Monday .", the
    text is already split: then every run without spaces is one word, as in the tokens of the training data.
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
    """Say whether a program has already split the text into words.

    In such a text a full stop or a comma has spaces around it, as in "on Monday ." or "yes , but".
    """
    return any(word in APART for word in text.split()[1:])


def _word_type(tag: str) -> str:
    return "O" if tag == "O" else split_tag(tag)[1]


register_kind(Tag())
