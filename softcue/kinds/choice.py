"""choice: finds the right one among a text's choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softcue.errors import RequestError
from softcue.kinds.base import READS_CHOICES, Fields, Kind, register_kind
from softcue.kinds.record import Parsed, QuestionParts, Reading, Record
from softcue.kinds.requests import check_inputs
from softcue.kinds.values import MOST_CHOICES, as_index, as_list, as_text

if TYPE_CHECKING:
    from torch import Tensor

    from softcue.batch import Batch
    from softcue.text.tokens import Text


class Choice(Kind):
    """Gives each choice a logit, compared within its question; a target is 1 for the right choice, else 0."""

    name = "choice"
    order = 2
    needs = ("text", "choices", "label")
    mark = "choices"
    has_labels = False
    metrics = ("accuracy",)
    reads = READS_CHOICES
    calibrated = True

    def parse(self, row: Fields) -> dict[str, Any]:
        """Return the text, the choices and the index of the right one."""
        text = row.text()
        choices = tuple(as_text(choice, "a choice") for choice in as_list(row.value("choices"), "choices"))
        return {"text": text, "choices": choices, "label": as_index(row.value("label"), choices)}

    def targets(self, record: Record, reading: Reading, number: Mapping[str, int]) -> tuple[Any, ...]:
        """Return for each choice whether it is the right one."""
        return tuple(int(i == record.label) for i in range(len(record.choices)))

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return cross-entropy over the choices of each question: (B,), (B,) -> (B,), (B,).

        The loss of a question is at its right choice; the other choices have 0.
        """
        right = target.float()
        return -within_groups(logits, batch.group, 1 + max(batch.groups)) * right, right

    def blind_loss(self, questions: Sequence[Sequence[Any]], classes: int) -> float:
        """Return the mean loss if all choices of a question have equal probabilities."""
        return sum(math.log(len(targets)) for targets in questions) / len(questions)

    def answers(self, logits: Tensor, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the probabilities of the choices, in the order of the request.

        (B,) -> question numbers, each with (choices,).
        """
        chance = within_groups(logits, batch.group, 1 + max(batch.groups)).exp().cpu()
        return [(question, chance[members]) for question, members in batch.questions().items()]

    def ask(self, request: Mapping[str, Any], pair: bool, text: Text) -> Parsed:
        """Read a text and its choices."""
        check_inputs(request, ("text", "choices"))
        if len(request["choices"]) > MOST_CHOICES:
            raise RequestError(f"has {len(request['choices']):,} choices; expected at most {MOST_CHOICES:,}")
        record = Record(text=request["text"], choices=tuple(request["choices"]))
        return Parsed(record, request["text"])

    def say(self, answer: Tensor, question: QuestionParts) -> dict[str, Any]:
        """Return the index of the most probable choice, and all scores: (choices,)."""
        return {"choice": int(answer.argmax()), "scores": answer.tolist()}

    def decide(self, answer: Tensor, reading: Reading) -> int:
        """Return the index of the most probable choice: (choices,)."""
        return int(answer.argmax())

    def constant(self, record: Record, commonest: Any, row: Tensor) -> Tensor:
        """Return a 1 at the most common index: () -> (choices,)."""
        answer = row.new_zeros(max(len(record.choices), commonest + 1))
        answer[commonest] = 1.0
        return answer

    def scored(
        self, value: dict[str, Any], choices: Sequence[str], scale: Callable[[float], float]
    ) -> list[Any]:
        """Return each choice with its score and its place in the request."""
        ordered = sorted(enumerate(value["scores"]), key=lambda pair: -pair[1])
        return [
            {"score": scale(chance), "label": choices[place], "index": place} for place, chance in ordered
        ]


def within_groups(logits: Tensor, group: Tensor, count: int) -> Tensor:
    """Compute log-softmax within each group: (B,), (B,) -> (B,); groups are numbered 0 to `count` - 1."""
    peak = logits.new_full((count,), -math.inf).scatter_reduce(0, group, logits.detach(), "amax")
    shifted = logits - peak[group]
    return shifted - logits.new_zeros(count).index_add(0, group, shifted.exp()).log()[group]


register_kind(Choice())
