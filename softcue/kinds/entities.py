"""Entities: turns tag sequences into spans, and the tagging schemes IOB1, BIOES and BILOU into IOB2."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from softcue.errors import DataError

EntitySpan = tuple[str, int, int]  # entity type, first word, one past the last

PREFIXES = frozenset("BIESLU")
_TO_BIOES = {"L": "E", "U": "S"}


def split_tag(tag: str) -> tuple[str, str]:
    """Return the prefix letter and the entity type of a tag, as seqeval reads it.

    "I-a-b" is ("I", "a-b"), and a bare "B" is ("B", "_").
    """
    return tag[:1], tag[1:].split("-", maxsplit=1)[-1] or "_"


def is_tag(tag: str) -> bool:
    """Say whether this is "O", or a prefix letter of a known scheme with a hyphen and a type."""
    return tag == "O" or (len(tag) > 2 and tag[1] == "-" and tag[0] in PREFIXES)


def starts_entity(before: str, tag: str) -> bool:
    """Say whether an entity starts at `tag` if the tag before it is `before`.

    Both tags have the letters O, B, I, E or S. The rule is seqeval's default, that of conlleval. It also
    reads sequences that their scheme forbids: an I or E after no entity, or after another type, starts an
    entity.
    """
    letter, kind = split_tag(tag)
    if letter in "BS":
        return True
    if letter == "O":
        return False
    letter_before, kind_before = split_tag(before)
    return letter_before in "OES" or kind_before != kind


def spans(tags: Sequence[str]) -> list[EntitySpan]:
    """Return the entities of one sentence, in order.

    They are the entities of seqeval's default mode, for every sequence of O, B, I, E and S tags.
    """
    found: list[EntitySpan] = []
    kind, start, before = "", -1, "O"
    for at, tag in enumerate((*tags, "O")):
        starts = starts_entity(before, tag)
        if start >= 0 and (starts or tag[:1] == "O"):
            found.append((kind, start, at))
            start = -1
        if starts:
            kind, start = split_tag(tag)[1], at
        before = tag
    return found


def to_iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of the same entities in IOB2, from any of the four schemes."""
    converted = []
    before = "O"
    for tag in tags:
        tag = _TO_BIOES.get(tag[0], tag[0]) + tag[1:]
        if tag == "O":
            converted.append(tag)
        else:
            prefix = "B-" if starts_entity(before, tag) else "I-"
            converted.append(prefix + tag[2:])
        before = tag
    return tuple(converted)


def continued(tag: str) -> str:
    """Return the tag for the later units of a word whose first unit has `tag`."""
    return tag if tag == "O" else "I-" + tag[2:]


def entity_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, tuple[int, int, int]]:
    """Return for each entity type the numbers of right, predicted and gold entities.

    They are counted as in seqeval's default mode.
    """
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for row, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        if len(gold_tags) != len(predicted_tags):
            raise DataError(f"row {row}: {len(predicted_tags)} tags predicted for {len(gold_tags)} words")
        gold_spans: set[EntitySpan] = set(spans(gold_tags))
        predicted_spans: set[EntitySpan] = set(spans(predicted_tags))
        right.update(span[0] for span in gold_spans & predicted_spans)
        found.update(span[0] for span in predicted_spans)
        wanted.update(span[0] for span in gold_spans)
    return {kind: (right[kind], found[kind], wanted[kind]) for kind in sorted(found | wanted)}


@dataclass
class Scheme:
    """Recognises the tagging scheme of one file; `see` is called with each sentence."""

    letters: Counter[str] = field(default_factory=Counter)
    orphans: int = 0  # number of I or closing tags that continue nothing
    first_orphan: str = ""
    free: int = 0  # B that follows no entity of its own type; IOB1 has none
    unclosed: int = 0  # B or I after which a scheme with closing tags wants one, and gets none
    first_unclosed: str = ""

    def see(self, tags: Sequence[str], where: str) -> None:
        """Count the letters and faults of one sentence.

        where: the place of the sentence, for messages.
        """
        before = "O"
        for tag in (*tags, "O"):
            letter = tag[0]
            same = before[2:] == tag[2:]
            self.letters[letter] += 1
            if letter in "IEL" and (before[0] in "OESLU" or not same):
                self.orphans += 1
                self.first_orphan = self.first_orphan or where
            elif letter == "B" and (before == "O" or not same):
                self.free += 1
            if before[0] in "BI" and (letter in "OBSU" or not same):
                self.unclosed += 1
                self.first_unclosed = self.first_unclosed or where
            before = tag

    @property
    def name(self) -> str:
        """The scheme's name: IOB1, IOB2, BIOES or BILOU.

        Raises RequestError if the letters belong to more than one scheme.
        """
        bioes = self.letters["E"] + self.letters["S"]
        bilou = self.letters["L"] + self.letters["U"]
        if bioes and bilou:
            raise DataError("tags mix BIOES (E-, S-) and BILOU (L-, U-); use one scheme in a file")
        if bioes or bilou:
            return "BIOES" if bioes else "BILOU"
        return "IOB1" if self.orphans and not self.free else "IOB2"

    @property
    def faults(self) -> int:
        """The number of tags that the scheme forbids; the conversion to IOB2 repairs them."""
        if self.name == "IOB1":
            return 0
        return self.orphans if self.name == "IOB2" else self.orphans + self.unclosed

    @property
    def first_fault(self) -> str:
        """The place of one of the first forbidden tags."""
        return self.first_orphan or self.first_unclosed
