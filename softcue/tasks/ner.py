"""Named entity recognition sets, scored by entity micro-F1."""

from collections.abc import Sequence

from softcue.readers import Hub, RawRow
from softcue.tasks.base import Task, tagged

_METRICS = ("f1", "precision", "recall")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}

# The tags that the numbers in the hub's copy stand for, in order; its files do not name them.
_ONTONOTES = (
    "O B-CARDINAL B-DATE I-DATE B-PERSON I-PERSON B-NORP B-GPE I-GPE B-LAW I-LAW B-ORG I-ORG "
    "B-PERCENT I-PERCENT B-ORDINAL B-MONEY "
    "I-MONEY B-WORK_OF_ART I-WORK_OF_ART B-FAC B-TIME I-CARDINAL B-LOC B-QUANTITY I-QUANTITY "
    "I-NORP I-LOC B-PRODUCT I-TIME B-EVENT "
    "I-EVENT I-FAC B-LANGUAGE I-PRODUCT I-ORDINAL I-LANGUAGE"
)


def _conll04(raw: RawRow) -> Sequence[RawRow]:
    """Return the row's tags, or those of the hub's entities: word spans, the end exclusive."""
    if "tags" in raw:
        return [{"tokens": raw["tokens"], "tags": raw["tags"]}]
    tags = ["O"] * len(raw["tokens"])
    for entity in raw["entities"]:
        for at in range(entity["start"], entity["end"]):
            prefix = "B-" if at == entity["start"] else "I-"
            tags[at] = prefix + entity["type"]
    return [{"tokens": raw["tokens"], "tags": tags}]


NER = (
    Task(
        name="conll2003",
        kind="tag",
        metrics=_METRICS,
        template=tagged(tags="ner_tags"),
        folders=("conll2003",),
        hub=Hub("eriktks/conll2003", revision="refs/convert/parquet", splits=_SPLITS),
        rows={"train": 14_041, "dev": 3_250, "test": 3_453},
    ),
    Task(
        name="conll04",
        kind="tag",
        metrics=_METRICS,
        template=_conll04,
        folders=("conll04",),
        hub=Hub("DFKI-SLT/conll04", splits=_SPLITS),
        rows={"train": 922, "dev": 231, "test": 288},
    ),
    Task(
        name="ontonotes5",
        kind="tag",
        metrics=_METRICS,
        template=tagged(names=_ONTONOTES.split()),
        folders=("ontonotes5",),
        hub=Hub("tner/ontonotes5", revision="refs/convert/parquet", splits=_SPLITS),
        rows={"train": 59_924, "dev": 8_528, "test": 8_262},
    ),
    Task(
        name="wnut17",
        kind="tag",
        metrics=_METRICS,
        template=tagged(tags="ner_tags"),
        folders=("wnut17",),
        hub=Hub("leondz/wnut_17", revision="refs/convert/parquet", splits=_SPLITS),
        rows={"train": 3_394, "dev": 1_009, "test": 1_287},
    ),
)
