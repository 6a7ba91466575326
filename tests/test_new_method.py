"""A new method is three files: put into a copy of the repository, its code, page and test are all
that the tests of every method, the command line and the tables of the documentation ask for.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import TINY

ROOT = Path(__file__).parents[1]
COPIED = ("softcue", "tests", "docs", "scripts", "README.md", "pyproject.toml")
FEW = ("bert", "roberta")  # of the encoder families, for time
NEW = {
    "softcue/cues/accent.py": '''"""Accent: a learnt vector is added to [CLS] before the first layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softcue.kernels.dropout import drop
from softcue.options import Options, per_seat_setting
from softcue.protocol import Context, Cue, Dims
from softcue.rows import add_rows, copies


@dataclass(frozen=True)
class AccentConfig(Options):
    """One option; grade as in docs/methods/accent.md."""

    dropout: float = per_seat_setting(0.1, least=0, below=1)  # of the vector


class Accent(Cue, method="accent", config=AccentConfig):
    """h[CLS] += drop(vector)"""

    dropout: Tensor

    def __init__(self, dims: Dims, config: AccentConfig, adapters: int = 1) -> None:
        super().__init__(dims, config, adapters)
        self.vector = nn.Parameter(torch.empty(adapters, dims.hidden).normal_(std=0.02))  # (A, D)

    @classmethod
    def count(cls, dims: Dims, config: AccentConfig) -> int:
        """D"""
        return dims.hidden

    def before_layer(self, layer: int, hidden: Tensor, ctx: Context) -> Tensor:
        """(N, D) -> (N, D)"""
        if layer:
            return hidden
        batch = ctx.batch
        vector = drop(copies(self.vector, batch, hidden.dtype), self.dropout, batch.seat, self.training)
        return add_rows(hidden, batch.special[:, :1], vector[:, None])
''',
    "docs/methods/accent.md": """# Accent

- learnt: one vector
- grade: made up

A vector added to [CLS].

## Equation

```text
h[CLS] = h[CLS] + drop(vector)        before the first layer
```

## Options

| option | default | meaning | grade |
|---|---|---|---|
| `dropout` | 0.1 | of the vector | inferred |

## Parameters

```formula
hidden
```
""",
    "tests/cues/test_accent.py": '''"""Accent against its equation written the slow way."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.batch import Example
from softcue.protocol import Cue
from tests.cues.cue_cases import Counted, Own, agree, build, case
from tests.encoder.slow_bert import encode

OWN = Own(
    small={"dropout": 0.0},
    counted=[Counted({}, {"bert-base": 768, "bert-large": 1_024})],
    refused=[({"dropout": 1.0}, "dropout is 1.0; expected less than 1")],
)


def test_accent_equals_its_equation_in_outputs_and_gradients() -> None:
    def slow(model: PreTrainedModel, cue: Cue, seat: int, example: Example) -> Tensor:
        def before(layer: int, hidden: Tensor) -> Tensor:
            return hidden if layer else torch.cat([hidden[:1] + cue.vector[seat], hidden[1:]])

        return encode(model, example, before=before)

    agree("bert", build("accent", case("bert")[1]), slow)
''',
}
# what runs over every method, and the new method's own
ASKED = (
    "tests/contract",
    "tests/cues/test_accent.py",
    "tests/cues/test_cue_counts.py",
    "tests/cues/test_cues.py",
    "tests/test_method_docs.py",
    "tests/test_readme.py::test_the_table_of_methods_is_the_registry_with_the_grades_of_the_method_pages",
    "tests/training/test_presets.py::test_every_shipped_preset_is_sound",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the repository, as far as these tests need it, with the three files."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path)
    for name, text in NEW.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(clone: Path, *words: str) -> str:
    """What `python -m WORDS` prints in the copy, where it must succeed."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_method_is_its_code_its_page_and_its_test(clone: Path) -> None:
    rows = {row["method"]: row for row in json.loads(run(clone, "softcue", "methods", "--json"))}
    row = rows["accent"]
    assert row["about"] == "Accent: a learnt vector is added to [CLS] before the first layer."
    assert (row["settings"], row["parameters"]) == ({"dropout": 0.1}, 768)

    run(clone, "scripts.methods_table")
    readme = (clone / "README.md").read_text(encoding="utf-8")
    assert "| [`accent`](docs/methods/accent.md) | one vector | made up |" in readme

    others = " or ".join(family for family in TINY if family not in FEW)
    flags = ("-p", "no:cacheprovider", "--method", "accent", "-k", f"not ({others})")
    told = run(clone, "pytest", "-v", *ASKED, *flags)
    for name in (
        "test_contract.py::test_mixed_batch_equals_one_example_at_a_time[bert-accent]",
        "test_no_waiting.py::test_no_method_waits_on_any_family[roberta-accent]",
        "test_accent.py::test_accent_equals_its_equation_in_outputs_and_gradients",
        "test_cue_counts.py::test_every_formula_gives_the_numbers_that_the_methods_own_test_says[accent]",
        "test_cues.py::test_a_bad_config_is_refused_with_everything_that_is_wrong[accent-",
        "test_method_docs.py::test_every_formula_on_a_page_is_the_number_of_parameters[bert-base-accent]",
    ):
        assert name in told, told
    assert "SKIPPED" not in told
