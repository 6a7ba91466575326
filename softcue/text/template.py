"""Template: where a tokenizer puts its special tokens around one text or two, and what is cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softcue.errors import BackboneError, RequestError
from softcue.text.example import Example

JsonObject = Mapping[str, Any]
Offset = tuple[int, int]  # characters [first, one past the last) of a Python string


@dataclass(frozen=True)
class Piece:
    """One element of a template: some special tokens, or the place of a text."""

    segment: int
    token: tuple[int, ...] = ()  # special tokens; none where a text goes
    text: int | None = None  # which text goes here; None: special tokens


@dataclass(frozen=True)
class Template:
    """The pieces around one text, or two, in reading order; the first is a special token."""

    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """How many special tokens the template inserts."""
        return sum(len(piece.token) for piece in self.pieces)

    @property
    def lead(self) -> int:
        """How many special tokens stand in front of the first text."""
        texts = [piece.text for piece in self.pieces]
        return sum(len(piece.token) for piece in self.pieces[: texts.index(0)])

    @property
    def slots(self) -> tuple[str, ...]:
        """Roles of the special tokens: the one in front is "cls", all others are "sep"."""
        return ("cls", *["sep"] * (self.size - 1))

    def keep(self, limit: int, lengths: Sequence[int]) -> tuple[int, ...]:
        """Return how many tokens of each text are kept within a limit.

        A single text loses its end. Of two texts the longer is cut first. The rule is that of the
        `tokenizers` library (`longest_first`): if both must be cut, each gets half, and an odd token goes to
        the longer, or to the second if they are equal. Raises RequestError for a limit below the template's
        own size.
        """
        room = limit - self.size
        if room < 0:
            raise RequestError(
                f"a limit of {limit} tokens is too short: the special tokens alone take {self.size}; give a "
                "longer one"
            )
        if len(lengths) == 1:
            return (min(lengths[0], room),)
        first, second = lengths
        if first + second <= room:
            return first, second
        shorter = min(first, second, room // 2)
        longer = room - shorter
        return (longer, shorter) if first > second else (shorter, longer)

    def fill(self, texts: Sequence[tuple[list[int], list[Offset]]]) -> tuple[Example, tuple[Offset, ...]]:
        """Lay texts out as an example, and return it with the spans of all its tokens.

        texts: token ids and spans of each. The span of a special token is (0, 0).
        """
        token: list[int] = []
        offset: list[Offset] = []
        segment: list[int] = []
        special: list[int] = []
        for piece in self.pieces:
            ids: Sequence[int]
            if piece.text is None:
                ids = piece.token
                spans = [(0, 0)] * len(ids)
                special += range(len(token), len(token) + len(ids))
            else:
                ids, spans = texts[piece.text]
            token += ids
            offset += spans
            segment += [piece.segment] * len(ids)
        return Example(tuple(token), tuple(segment), tuple(special)), tuple(offset)


def read_templates(processor: JsonObject | None) -> tuple[Template | None, Template | None]:
    """Read the templates for one text and for two from a tokenizer.json's `post_processor`.

    A template that inserts no special tokens, or leaves a text out, counts as None. Raises BackboneError for
    one that does not begin with a special token, since slot 0 must be [CLS], and for one that names a token
    that it does not define.
    """
    if processor is None:
        return None, None
    kind = processor["type"]
    if kind == "Sequence":
        found = [read_templates(step) for step in processor["processors"]]
        sound = [templates for templates in found if templates != (None, None)]
        return sound[0] if sound else (None, None)
    reader = _READERS.get(kind)
    if reader is None:
        return None, None
    single, pair = reader(processor)
    return _checked(single, (0,)), _checked(pair, (0, 1))


def _template_processing(processor: JsonObject) -> tuple[list[Piece], list[Piece]]:
    known = processor["special_tokens"]

    def piece(part: JsonObject) -> Piece:
        (kind, value), *_ = part.items()
        if kind == "Sequence":
            return Piece(value["type_id"], text="AB".index(value["id"]))
        if value["id"] not in known:
            raise BackboneError(
                f"the tokenizer's post_processor inserts {value['id']!r} but does not define it in "
                "`special_tokens`"
            )
        return Piece(value["type_id"], token=tuple(known[value["id"]]["ids"]))

    return [piece(part) for part in processor["single"]], [piece(part) for part in processor["pair"]]


def _bert_processing(processor: JsonObject) -> tuple[list[Piece], list[Piece]]:
    cls = (processor["cls"][1],)
    sep = (processor["sep"][1],)
    single = [Piece(0, cls), Piece(0, text=0), Piece(0, sep)]
    return single, [*single, Piece(1, text=1), Piece(1, sep)]


def _roberta_processing(processor: JsonObject) -> tuple[list[Piece], list[Piece]]:
    cls = (processor["cls"][1],)
    sep = (processor["sep"][1],)
    single = [Piece(0, cls), Piece(0, text=0), Piece(0, sep)]
    return single, [*single, Piece(0, sep), Piece(0, text=1), Piece(0, sep)]


_READERS: dict[str, Callable[[JsonObject], tuple[list[Piece], list[Piece]]]] = {
    "TemplateProcessing": _template_processing,
    "BertProcessing": _bert_processing,
    "RobertaProcessing": _roberta_processing,
}


def _checked(pieces: Sequence[Piece], texts: tuple[int, ...]) -> Template | None:
    """Return the template, or None unless it holds each text once, in order, and a special token."""
    held = tuple(piece.text for piece in pieces if piece.text is not None)
    if held != texts or not any(piece.token for piece in pieces):
        return None
    if not pieces[0].token:
        raise BackboneError(
            "the tokenizer's template puts no special token in front of the text; softcue needs an "
            "encoder's tokenizer, whose first token is [CLS] or its like"
        )
    return Template(tuple(pieces))
