"""Running a model over items, in batches by a budget of rows, and turning logits into answers and scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softcue.batch import Batch
from softcue.files import JsonRecord
from softcue.kinds import KINDS
from softcue.model import Model
from softcue.readers.items import Item, Reading
from softcue.readers.records import Data, Record
from softcue.scoring.metrics import scores

ROW_BUDGET = 4096  # budget of rows in one forward


@dataclass(frozen=True)
class Evaluation(JsonRecord):
    """How an adapter did on one split of a data set."""

    scores: Mapping[str, float]  # the data set's metrics
    report: Mapping[str, Any]  # by label, with a confusion table and calibration where the kind has them
    rows: int
    truncated: int  # rows that lost tokens
    split: str
    subset: str | None  # what part of a benchmark it is, None for all of it
    warnings: tuple[str, ...]
    worst: tuple[Mapping[str, Any], ...] = ()  # rows that are answered wrongly, the worst first
    raw_text: Mapping[str, float] | None = None  # entity scores of a tagger that is given texts, not tokens

    def to_json(self) -> dict[str, Any]:
        """Return its fields ready for JSON; raw_text is left out where it was not measured."""
        values = super().to_json()
        if self.raw_text is None:
            del values["raw_text"]
        return values


def batches(items: Sequence[Item], budget: int) -> Iterator[list[int]]:
    """Yield item numbers in batches of similar length and at most `budget` rows, or one item."""
    first: dict[int, int] = {}  # by item: one that stands several times is answered in one batch if it can be
    places = [first.setdefault(id(item), i) for i, item in enumerate(items)]
    order = sorted(range(len(items)), key=lambda i: (-items[i].rows, places[i]))
    batch: list[int] = []
    rows = 0
    for i in order:
        if batch and rows + items[i].rows > budget:
            yield batch
            batch, rows = [], 0
        batch.append(i)
        rows += items[i].rows
    if batch:
        yield batch


@torch.inference_mode()
def run(
    model: Model,
    items: Sequence[Item],
    seats: Sequence[int],
    budget: int = ROW_BUDGET,
    features: bool = False,
) -> list[Tensor]:
    """Answer items with any mix of seats, and return the answers on the host.

    (C,) probabilities, () a score, (choices,) probabilities, or (words, C) probabilities, for each item.
    features: instead of answers, what the heads' maps read, (D,) for each item; not for items of words.

    Any mix of seats in one forward; the model is put in evaluation mode and left in the mode it was found in.
    """
    modes = model.training, model.encoder.training
    if any(modes):  # walking all modules takes as long as a layer does for one short text
        model.eval()
    cut = pieces(items, budget)
    answers: list[Tensor] = [torch.empty(0)] * len(cut)
    for numbers in batches([piece for _, piece in cut], budget):
        batch = pack_items(model, [cut[i][1] for i in numbers], [seats[cut[i][0]] for i in numbers])
        for part in model(batch).parts:
            made = (
                zip(part.batch.groups, part.feature.cpu(), strict=True)
                if features
                else part.head.answers(part.logits, part.batch)
            )
            for local, answer in made:
                answers[numbers[local]] = answer
    if any(modes):
        model.train(modes[0])
        model.encoder.train(modes[1])
    parts: list[list[Tensor]] = [[] for _ in items]
    for (owner, _), answer in zip(cut, answers, strict=True):
        parts[owner].append(answer)
    return [joined_answer(own, item) for own, item in zip(parts, items, strict=True)]


def pieces(items: Sequence[Item], budget: int) -> list[tuple[int, Item]]:
    """Return items with their numbers, and tagged texts beyond the budget as several."""
    return [(number, share) for number, item in enumerate(items) for share in shares_of(item, budget)]


def shares_of(item: Item, rows: int) -> list[Item]:
    """Return a long tagged text as several items of at most `rows` rows, or one window; others as they are.

    `joined_answer` puts their answers together.
    """
    if item.answering is None or item.rows <= rows:
        return [item]
    shares, used = list[list[int]](), rows
    for number, encoded in enumerate(item.encoded):
        used += len(encoded.example.token)
        if used > rows:
            shares.append([])
            used = len(encoded.example.token)
        shares[-1].append(number)
    return [Item(tuple(item.encoded[i] for i in own), tuple(item.targets[i] for i in own)) for own in shares]


def joined_answer(parts: Sequence[Tensor], item: Item) -> Tensor:
    """Return an item's answer from those of its pieces, in their order.

    Tagging: (units, C) for each piece -> (words, C). Other items have one piece, whose answer it is.
    """
    answer = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    return answer if item.answering is None else answer[list(item.answering)]


def pack_items(model: Model, items: Sequence[Item], seats: Sequence[int]) -> Batch:
    """Pack the items' examples into one batch; the choices of one question share its number as group."""
    flat = [
        (example, seat, i)
        for i, (item, seat) in enumerate(zip(items, seats, strict=True))
        for example in item.examples
    ]
    examples, example_seats, group = zip(*flat, strict=True)
    return model.pack(examples, example_seats, group)


def decide(answer: Tensor, reading: Reading) -> Any:
    """Return an answer as the metrics want it: a label, a number, an index, or a tag for each word.

    (C,), (), (choices,) or (words, C) -> one of them.
    """
    return KINDS[reading.kind].decide(answer, reading)


def gold(record: Record, kind: str) -> Any:
    """Return what the record says the answer is."""
    return KINDS[kind].gold(record)


def judge(
    answers: Sequence[Tensor], records: Sequence[Record], reading: Reading, data: Data
) -> dict[str, float]:
    """Compute the data set's metrics of some answers."""
    predicted = [decide(answer, reading) for answer in answers]
    truth = [gold(record, reading.kind) for record in records]
    positive = reading.labels.index(data.positive) if data.positive in reading.labels else None
    return scores(
        reading.kind,
        data.metrics,
        truth,
        predicted,
        groups=[record.group for record in records],
        positive=data.positive,
        confidence=None if positive is None else [float(answer[positive]) for answer in answers],
        extra=[record.extra for record in records],
    )


def tuned(answers: Sequence[Tensor], records: Sequence[Record], reading: Reading) -> Reading:
    """Return the reading with what is chosen on rows that select, once they are answered."""
    kind = KINDS[reading.kind]
    return kind.tuned(reading, answers, [kind.gold(record) for record in records])


def evaluate_seat(
    model: Model, seat: int, items: Sequence[Item], records: Sequence[Record], reading: Reading, data: Data
) -> dict[str, float]:
    """Compute the data set's metrics on `records`, answered by `seat`."""
    return judge(run(model, items, [seat] * len(items)), records, reading, data)
