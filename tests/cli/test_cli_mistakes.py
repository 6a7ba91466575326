"""Mistakes on the command line: each is exit code 2 with a line that says what is wrong, never
a traceback, and nothing is saved.
"""

import json
import os
import random
from pathlib import Path

import pytest

from softcue.adapter import Adapter
from softcue.cues import Cue
from tests.cli.shell import Shell, make_place, make_shell, train  # noqa: F401  (fixtures)

LONG = "a" * 300  # longer than a file's name may be

MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("train", "data/classify"), "--out"),
    (("train", "--out", "new"), "no data came"),
    (("nonsense",), "nonsense"),
    (("train", "data/classify", "--out", "new", "--colour"), "--colour"),
    (train(data="nowhere"), "'nowhere' does not exist; expected a folder with train, dev and test files"),
    (train(data=LONG), "File name too long"),
    (train(data="foreign"), "has no train or dev or test file"),
    (train(data="empty.jsonl"), "empty.jsonl:1: the file has no rows"),
    (train(data="binary.jsonl"), "binary.jsonl:1: broken JSON"),
    (train(data="broken.jsonl"), "broken.jsonl:2: broken JSON"),
    (train(data="missing.jsonl"), "missing.jsonl:1: 'label' missing"),
    (train(data="glue/mnli/nowhere"), "does not exist"),
    (train("--data-root", "nowhere"), "the data root nowhere is not a folder"),
    (train("--data-root", LONG), "is not a folder"),
    (
        train("--method", "pastta"),
        "method 'pastta' is unknown; expected one of " + ", ".join(sorted(Cue.registry)),
    ),
    (train("--recipe", "pastta"), "there is no recipe 'pastta'"),
    (train("--plugin", "nowhere.py"), "plugin nowhere.py does not exist"),
    (train("--backbone", "no/such/folder"), "backbone 'no/such/folder': no such folder"),
    (train("--backbone", "foreign"), "the folder has no config.json"),
    (train("--backbone", "file"), "is a file; expected the folder"),
    (train("--backbone", ""), "no such folder"),
    (
        train("--kind", "classes"),
        "kind 'classes' is unknown; expected one of classify, score, choice, tag, multilabel",
    ),
    (train("--kind", "tag"), "train.jsonl:1: a text record among tag records"),
    (train("--kind", "score"), "train.jsonl:1: label 'bird' is not a number"),
    (train("--set", "rate"), "--set 'rate' came; expected NAME=VALUE, as in --set length=20"),
    (train("--set", "=3"), "--set '=3' came; expected NAME=VALUE"),
    (train("--set", "lenght=3"), "pasta has no setting lenght; its own settings are"),
    (train("--set", "epochs=0"), "epochs is 0; expected at least 1"),
    (train("--set", "epochs=many"), "epochs is 'many'; expected a whole number"),
    (train("--set", "epochs=1.5"), "epochs is 1.5; expected a whole number"),
    (train("--set", "epochs="), "epochs is ''; expected a whole number"),
    (train("--set", "epochs=" + "[" * 5000), "expected a whole number"),
    (train("--set", "epochs=" + "9" * 5000), "expected a whole number"),
    (train("--set", "rate=nan"), "rate is nan; expected a number"),
    (train("--set", "schedule=cosine"), "schedule is 'cosine'; expected 'linear' or"),
    (train("--method", "full", "--set", "length=3"), "full fine-tuning has no setting length"),
    (train("--method", "prompt", "--set", "length=1000"), "shorten the prompt"),
    (
        train("--method", "prompt", "--set", "length=99999999999"),
        "length is 99999999999; expected less than 4097",
    ),
    (train("--seed", "x"), "--seed"),
    (train("--seed", "-1"), "seed -1 came; expected 0 to"),
    (train("--seed", "9" * 30), "expected 0 to"),
    (train("--rows", "0"), "the number of train rows 0 came; expected at least 1"),
    (train("--rows", "-3"), "expected at least 1"),
    (train("--pooling", "max"), "does not have pooling 'max'"),
    (train("--limit", "2"), "leave none for the text"),
    (train("--limit", "-5"), "limit -5 came; expected 1 to 1,048,576"),
    (
        train("--precision", "float8"),
        "precision 'float8' is unknown; expected one of auto, float32, bfloat16",
    ),
    (train("--device", "gpu"), "device 'gpu' is not available"),
    (train(out="file"), "file is a file; expected a folder"),
    (train(out="file/below"), "file is a file; expected a folder"),
    (train(out="foreign"), "has files that are not a softcue adapter"),
    (train(out="."), "has files that are not a softcue adapter"),
    (train(out=LONG), "File name too long"),
    (("eval", "nowhere", "data/classify"), "nowhere: no such folder; expected one with adapter_config.json"),
    (("eval", "foreign", "data/classify"), "foreign/adapter_config.json: No such file"),
    (("eval", LONG, "data/classify"), "File name too long"),
    (("eval", "adapters/classify", "nowhere"), "'nowhere' does not exist"),
    (
        ("eval", "adapters/classify", "data/classify", "--split", "exam"),
        "split 'exam' is unknown; expected train, dev, test",
    ),
    (("eval", "adapters/classify", "data/tag"), "test.jsonl:1: a tag record among text records"),
    (
        ("eval", "adapters/classify", "data/pair"),
        "pair has pairs of texts; the adapter was trained on single texts",
    ),
    (
        ("eval", "adapters/classify", "data/classify", "--backbone", "other"),
        "the weights or the tokenizer differ",
    ),
    (("predict", "nowhere", "a"), "nowhere: no such folder"),
    (("predict", "file", "a"), "file: no such folder"),
    (("predict", "adapters/classify"), "give a text (two for a pair), or --file"),
    (("predict", "adapters/classify", "a", "--file", "in.jsonl"), "give a text (two for a pair), or --file"),
    (("predict", "adapters/classify", ""), "text is ''; expected a text that is not empty"),
    (("predict", "adapters/classify", "a", "b"), "gives text, text_pair; expected text"),
    (("predict", "adapters/classify", "a", "b", "c"), "3 texts came; expected one, or two"),
    (("predict", "adapters/pair", "a"), "gives text; expected text and text_pair"),
    (("predict", "adapters/choice", "a"), "gives text; expected text and choices"),
    (("predict", "adapters/classify", "\udcff"), "half a character"),
    (("predict", "adapters/classify", "--file", "nowhere"), "--file nowhere is no file"),
    (("predict", "adapters/classify", "--file", "data"), "--file data is no file"),
    (("predict", "adapters/classify", "--file", LONG), "is no file"),
    (("predict", "adapters/classify", "--file", "empty.jsonl"), "--file empty.jsonl is empty"),
    (
        ("predict", "adapters/classify", "--file", "broken.jsonl"),
        "broken.jsonl:3: a JSON list; expected one object a line",
    ),
    (
        ("predict", "adapters/classify", "--file", "missing.jsonl"),
        "missing.jsonl:2 (adapter 'adapters/classify'): gives no input",
    ),
    (
        ("predict", "adapters/classify", "a", "--backbone", "other"),
        "adapter 'adapters/classify' was trained for",
    ),
    (("predict", "adapters/classify", "a", "--out", "foreign"), "is a folder or a device; expected a file"),
    (
        ("predict", "adapters/classify", "a", "--out", "nowhere/out.jsonl"),
        "nowhere/out.jsonl: its folder: No such file or directory; make it first",
    ),
    (
        ("predict", "adapters/classify", "a", "--out", "file/out.jsonl"),
        "file/out.jsonl: its folder: Not a directory",
    ),
    (("predict", "adapters/classify", "a", "--out", LONG), "File name too long"),
    (("info", "nowhere"), "nowhere: no such folder"),
    (("info", "foreign"), "foreign/adapter_config.json"),
    (("methods", "more"), "more"),
    (("tasks", "--data-root", "nowhere"), "the data root nowhere is not a folder"),
    (("quickstart", "--out", "file", "--backbone", "backbone"), "file is a file; expected a folder"),
    (("quickstart", "--out", "new", "--backbone", "no/such/folder"), "no such folder"),
]


@pytest.mark.parametrize(
    ("words", "told"), MISTAKES, ids=[" ".join(map(str, words))[-60:] for words, _ in MISTAKES]
)
def test_a_mistake_is_exit_code_2_and_a_line_that_says_what_is_wrong(
    words: tuple[str, ...], told: str, shell: Shell
) -> None:
    err = shell.refused(*words)
    assert told in err
    lines = err.strip().splitlines()
    usage = lines[0].startswith("Usage:")  # typer's own, for what is no command or flag
    listed = all(line.startswith("  ") for line in lines[1:])  # problems by file and line
    assert usage or (lines[0].startswith("softcue: ") and listed), err
    assert not Path("new").exists(), "nothing is saved"


FLAGS: dict[str, tuple[str, ...]] = {
    "--method": (*sorted(Cue.registry), "full", "nope"),
    "--kind": ("classify", "score", "choice", "tag", "multilabel", "none"),
    "--set": (
        "length=3",
        "length=60",
        "length=x",
        "rate=1e-3",
        "rate=-1",
        "batch=1",
        "batch=1e9",
        "dropout=0.5",
        "plan=preset",
        "patience=0",
    ),
    "--seed": ("0", "7", "-7"),
    "--rows": ("1", "2", "12", "1000000"),
    "--pooling": ("cls", "mean", "pooler", "sum"),
    "--limit": ("3", "8", "64", "100000"),
    "--precision": ("float32", "bfloat16", "half"),
    "--device": ("cpu", "tpu"),
}
PLACES = (
    "data/classify",
    "data/score",
    "data/choice",
    "data/tag",
    "data/pair",
    "data/classify/train.jsonl",
    "broken.jsonl",
    "empty.jsonl",
    "data",
)


@pytest.mark.parametrize("seed", range(48))
def test_any_mix_of_flags_either_trains_or_is_refused(seed: int, shell: Shell, tmp_path: Path) -> None:
    chance = random.Random(seed)
    flags = [
        word
        for flag in chance.sample(sorted(FLAGS), chance.randrange(4))
        for word in (flag, chance.choice(FLAGS[flag]))
    ]
    words = train(*flags, "--json", data=chance.choice(PLACES), out=tmp_path / "new")
    result = shell(*words)
    if result.code == 0:
        assert json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))[
            "adapter"
        ] == str(tmp_path / "new")
        Adapter.load(tmp_path / "new")
    else:
        assert result.code == 2, result
        assert result.err.startswith(("softcue: ", "warning: "))
        assert not os.listdir(tmp_path)
