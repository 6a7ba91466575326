"""SuperGLUE (Wang et al., 2019), with the input templates of P-tuning v2's code.

The test splits, whose labels are hidden, are left out.
"""

import re
from collections.abc import Sequence

from softcue.readers import Hub, RawRow
from softcue.tasks.base import Task, pair, truth

_SPLITS = {"train": "train", "dev": "validation"}


def _hub(config: str) -> Hub:
    return Hub("aps/super_glue", config, splits=_SPLITS)


def _copa(raw: RawRow) -> Sequence[RawRow]:
    """Pair the premise and "because" or "so" with each choice."""
    joiner = {"cause": "because", "effect": "so"}[raw["question"]]
    premise = raw["text"] if "text" in raw else raw["premise"]
    choices = raw["choices"] if "choices" in raw else [raw["choice1"], raw["choice2"]]
    label = {"choice1": 0, "choice2": 1}.get(raw["label"], raw["label"])
    return [{"text": f"{premise} {joiner}", "choices": choices, "label": label}]


def _multirc(raw: RawRow) -> Sequence[RawRow]:
    """Pair the paragraph with question and answer; the answers of a question are a group."""
    if "text_pair" in raw:
        row = {name: raw[name] for name in ("text", "text_pair", "group")}
        return [{**row, "label": truth(raw.get("label"))}]
    group = f"{raw['idx']['paragraph']}-{raw['idx']['question']}"
    answer = f"{raw['question']} {raw['answer']}"
    return [{"text": raw["paragraph"], "text_pair": answer, "label": truth(raw["label"]), "group": group}]


def _record(raw: RawRow) -> Sequence[RawRow]:
    """Pair the passage with the query and one entity in its gap; the entities of a query are a group."""
    text = raw["passage"].replace("@highlight\n", "- ")
    idx = raw["idx"]
    return [
        {
            "text": text,
            "text_pair": raw["query"].replace("@placeholder", entity),
            "label": "true" if entity in raw["answers"] else "false",
            "group": f"{idx['passage']}-{idx['query']}",
            "entity": entity,
            "answers": raw["answers"],
        }
        for entity in raw["entities"]
    ]


def _word_span(text: str, index: int) -> tuple[int, int]:
    """Return the span in characters of the index-th word of a text; blanks separate words."""
    words = list(re.finditer(r"\S+", text))
    return words[index].span()


def _wic_spans(raw: RawRow) -> list[tuple[int, int]]:
    """Return where the word stands in its two sentences, in characters.

    The hub has characters, our folder the number of the word.
    """
    if "index1" in raw:
        return [_word_span(raw["sentence1"], raw["index1"]), _word_span(raw["sentence2"], raw["index2"])]
    return [(raw["start1"], raw["end1"]), (raw["start2"], raw["end2"])]


def _wic(raw: RawRow) -> Sequence[RawRow]:
    """Apply template 1: both sentences, each after the word and a colon."""
    head = f"{raw['word']}: "
    first, second = [(start + len(head), end + len(head)) for start, end in _wic_spans(raw)]
    row = {
        "text": head + raw["sentence1"],
        "text_pair": head + raw["sentence2"],
        "label": truth(raw["label"]),
    }
    return [{**row, "word": raw["word"], "span1": first, "span2": second}]


def _wic_question(raw: RawRow) -> Sequence[RawRow]:
    """Apply template 0, that of the published RoBERTa runs: one text that asks a question."""
    one, two = raw["sentence1"], raw["sentence2"]
    text = f"{one} {two} Does {raw['word']} have the same meaning in both sentences?"
    first, (start, end) = _wic_spans(raw)
    second = (start + len(one) + 1, end + len(one) + 1)
    return [
        {"text": text, "label": truth(raw["label"]), "word": raw["word"], "span1": first, "span2": second}
    ]


def _wsc(raw: RawRow) -> Sequence[RawRow]:
    """Pair the pronoun, a colon and the text with the noun phrase.

    The spans of noun phrase and pronoun are characters of the first text.
    """
    target = raw.get("target", raw)
    text = raw["raw_text"] if "raw_text" in raw else raw["text"]
    noun, pronoun = target["span1_text"], target["span2_text"]
    head = f"{pronoun}: "
    spans = []
    for words, index in ((noun, target["span1_index"]), (pronoun, target["span2_index"])):
        start, end = _word_span(text, index)
        found = text.lower().find(words.lower(), start)  # a quotation mark may stand before the word
        if start <= found < end:
            start, end = found, found + len(words)
        spans.append((start + len(head), end + len(head)))
    return [
        {
            "text": head + text,
            "text_pair": noun,
            "label": truth(raw["label"]),
            "span1": spans[0],
            "span2": spans[1],
        }
    ]


SUPERGLUE = (
    Task(
        name="superglue/boolq",
        kind="classify",
        metrics=("accuracy",),
        template=pair("question", "passage"),
        folders=("boolq",),
        hub=_hub("boolq"),
        rows={"train": 9_427, "dev": 3_270},
        subsets={"boolq": "train is the 64 rows of FewGLUE"},
    ),
    Task(
        name="superglue/cb",
        kind="classify",
        metrics=("accuracy", "macro_f1"),
        template=pair("premise", "hypothesis"),
        folders=("cb",),
        hub=_hub("cb"),
        rows={"train": 250, "dev": 56},
    ),
    Task(
        name="superglue/copa",
        kind="choice",
        metrics=("accuracy",),
        template=_copa,
        folders=("copa_mc",),
        hub=_hub("copa"),
        rows={"train": 400, "dev": 100},
    ),
    Task(
        name="superglue/multirc",
        kind="classify",
        metrics=("f1a", "em"),
        template=_multirc,
        folders=("multirc",),
        hub=_hub("multirc"),
        positive="true",
        extra_columns=("group",),
        rows={"train": 27_243, "dev": 4_848},
        subsets={"multirc": "train is the 64 questions of FewGLUE"},
    ),
    Task(
        name="superglue/record",  # rows are entities, so that the official counts, of queries, do not apply
        kind="classify",
        metrics=("record_f1", "record_em"),
        template=_record,
        folders=("record",),
        hub=_hub("record"),
        positive="true",
        extra_columns=("group", "entity", "answers"),
    ),
    Task(
        name="superglue/rte",
        kind="classify",
        metrics=("accuracy",),
        template=pair("premise", "hypothesis"),
        folders=("rte",),
        hub=_hub("rte"),
        rows={"train": 2_490, "dev": 277},
    ),
    Task(
        name="superglue/wic",
        kind="classify",
        metrics=("accuracy",),
        template=_wic,
        folders=("wic",),
        hub=_hub("wic"),
        extra_columns=("word", "span1", "span2"),
        rows={"train": 5_428, "dev": 638},
    ),
    Task(
        name="superglue/wic_question",
        kind="classify",
        metrics=("accuracy",),
        template=_wic_question,
        folders=("wic",),
        hub=_hub("wic"),
        extra_columns=("word", "span1", "span2"),
        rows={"train": 5_428, "dev": 638},
    ),
    Task(
        name="superglue/wsc",
        kind="classify",
        metrics=("accuracy",),
        template=_wsc,
        folders=("wsc",),
        hub=_hub("wsc"),
        extra_columns=("span1", "span2"),
        rows={"train": 554, "dev": 104},
    ),
)
