"""A file of the user's own is a full member: the example in the docs is listed, trained, saved,
loaded, served and passes the contract.
"""

import importlib
import inspect
import json
import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import softcue
from softcue import api, plugins
from softcue.cues import Cue
from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.plugins import load_plugin
from softcue.tasks import all_tasks, find_task
from softcue.tasks import base as tasks
from tests.studies.test_compare import run_cli, tiny_backbone
from tests.tiny_base import tiny_base

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
METHOD, TASK, USE = re.findall(r"^```python\n(.+?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
(COMMANDS,) = re.findall(r"^```console\n(.+?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
(CHECKS,) = re.findall(r"^```bash\n(.+?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
SENT = "sent(torch.tensor(batch.lengths, dtype=hidden.dtype), hidden.device)"
WAITING = "torch.tensor(batch.lengths, dtype=hidden.dtype, device=hidden.device)"
# every test of tests/contract that is about one method
CONTRACT = {
    f"{file.stem}::{name}": test
    for file in sorted((ROOT / "tests" / "contract").glob("test_*.py"))
    for name, test in vars(importlib.import_module(f"tests.contract.{file.stem}")).items()
    if name.startswith("test_") and "method" in inspect.signature(test).parameters
}


@contextmanager
def fresh_process() -> Iterator[None]:
    """What a plugin registers is gone afterwards, as if the process had ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cue, "registry", dict(Cue.registry))
        patch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
        patch.setattr(plugins, "_LOADED", dict(plugins._LOADED))
        kinds = dict(KINDS)
        before = set(sys.modules)
        yield
        KINDS.clear()
        KINDS.update(kinds)
        for name in set(sys.modules) - before:
            if name.startswith(plugins.PREFIX):
                del sys.modules[name]


@pytest.fixture
def fresh() -> Iterator[None]:
    with fresh_process():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the two files of the page, data that the task reads, and an encoder."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_method.py").write_text(METHOD, encoding="utf-8")
    (folder / "my_task.py").write_text(TASK, encoding="utf-8")
    tiny_backbone(folder / "encoder")
    (folder / "data" / "desk").mkdir(parents=True)
    chance = random.Random(0)
    for split, size in (("train", 48), ("test", 16)):
        rows = [
            {"subject": chance.choice(["dog", "fox"]), "message": chance.choice(["hello", "the lazy day"])}
            for _ in range(size)
        ]
        lines = [json.dumps({**row, "urgent": row["subject"] == "dog"}) for row in rows]
        (folder / "data" / "desk" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_commands_on_the_page_train_save_load_and_compare(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    told = {}
    for line in COMMANDS.splitlines():
        program, command, *rest = shlex.split(line.replace("minilm", "encoder"))
        assert program == "softcue"
        if command == "compare":
            rest += ["--backbone", "encoder"]
        with fresh_process():
            code = run_cli(monkeypatch, command, *rest)
        told[command] = capsys.readouterr().out
        assert code == 0, line
    assert "Nudge: before every layer" in told["methods"] and "dropout=0.1" in told["methods"]
    assert re.search(r"desk/urgent +│ classify +│ f1, accuracy +│ data/desk", told["tasks"])
    assert "nudge on desk/urgent, 99 trained parameters" in told["train"]
    assert "nudge for encoder" in told["info"]
    assert "test, 16 rows" in told["eval"] and "f1 " in told["eval"]
    assert json.loads(told["predict"])["label"] in ("false", "true")
    assert all(name in told["compare"] for name in ("majority", "probe", "nudge", "pasta", "f1"))
    assert "nudge" not in Cue.registry and find_task("desk/urgent") is None
    assert run_cli(monkeypatch, "predict", "adapters/urgent", "x") == 2
    assert "nudge" in capsys.readouterr().err

    with fresh_process():
        names: dict[str, Any] = {"__name__": "user"}
        exec(USE.replace("minilm", "encoder"), names)
        answer = names["answers"][0]
    assert answer["label"] == json.loads(told["predict"])["label"]
    assert answer["scores"] == pytest.approx(json.loads(told["predict"])["scores"], abs=1e-5)


def test_a_new_process_answers_with_the_plugin_named(place: Path) -> None:
    with fresh_process():
        for name in ("my_method.py", "my_task.py"):
            load_plugin(place / name)
        settings = {"epochs": 1}
        trained = softcue.train(
            "desk/urgent",
            root=place / "data",
            backbone=str(place / "encoder"),
            method="nudge",
            settings=settings,
        )
        trained.save(place / "adapters" / "alone")
    command = [
        sys.executable,
        "-m",
        "softcue",
        "predict",
        "adapters/alone",
        "the dog",
        "--plugin",
        "my_method.py",
    ]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in ("false", "true")


@pytest.mark.parametrize("name", CONTRACT)
def test_the_example_method_passes_the_contract(name: str, place: Path, fresh: None) -> None:
    load_plugin(place / "my_method.py")
    test = CONTRACT[name]
    arguments = {"family": "bert", "method": "nudge"}
    test(**{key: arguments[key] for key in inspect.signature(test).parameters})


def checked(plugin: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The page's own command for a plugin's contract, in a process of its own."""
    program, *words = shlex.split(CHECKS.splitlines()[-1].replace("my_method.py", str(plugin)))
    assert program == ".venv/bin/python"
    command = [sys.executable, *words, "-q", "-p", "no:cacheprovider", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_example_method_passes_the_whole_contract_on_every_family(place: Path) -> None:
    done = checked(place / "my_method.py")
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > len(CONTRACT) * 10, "on every family"


def test_an_example_that_waits_for_its_device_does_not_pass_the_contract(tmp_path: Path) -> None:
    assert METHOD.count(SENT) == 1
    (tmp_path / "waits.py").write_text(METHOD.replace(SENT, WAITING), encoding="utf-8")
    done = checked(tmp_path / "waits.py", "-k", "test_no_method_waits_alone")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_no_method_waits_alone[nudge]" in done.stdout
    assert "sends numbers of the host and waits" in done.stdout


def test_the_tests_of_one_method_are_those_of_a_method_that_there_is() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/contract", "--method", "nope"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    assert "--method nope is unknown; expected one of " + ", ".join(sorted(Cue.registry)) in done.stderr


def test_a_plugin_is_run_once_and_says_what_it_registered(place: Path, fresh: None) -> None:
    assert softcue.load_plugin(place / "my_method.py") == ["nudge"]
    assert load_plugin(place / "my_task.py") == ["desk/urgent"]
    first = Cue.registry["nudge"]
    assert load_plugin(str(place / "my_method.py")) == ["nudge"] and Cue.registry["nudge"] is first


HEAD = (
    "from dataclasses import dataclass\nfrom softcue import Cue\n@dataclass(frozen=True)\nclass "
    "C:\n    size: int = 1\n"
)
COUNTED = "    @classmethod\n    def count(cls, dims, config):\n        return 0\n"
with pytest.raises((SyntaxError, ValueError)) as null_bytes:  # by Python's patch release
    compile("a = 1\x00", "broken.py", "exec")
BROKEN = [
    ("def f(:\n    pass", "line 1: SyntaxError: invalid syntax"),
    ("a = 1\nb = a / 0\n", "line 2: ZeroDivisionError: division by zero"),
    ("def f():\n    import sys\n    sys.exit('bye')\nf()\n", "line 3: SystemExit: bye"),
    ("import nothing_of_that_name", "line 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    ("a = 1\x00", f"{null_bytes.typename}: source code string cannot contain null bytes"),
    ("import json\njson.loads('{')", "line 2: JSONDecodeError"),
    ("a = 1", "it registers nothing; expected a subclass of softcue.Cue"),
    (HEAD + "class Mine(Cue, method='pasta', config=C):\n    pass", "method 'pasta' is registered twice"),
    (HEAD + "class Pasta(Cue, method='pasta', config=C):\n    pass", "there already is a method 'pasta'"),
    (HEAD + "class Mine(Cue, method='a/b', config=C):\n" + COUNTED, "'a/b' cannot be a method's name"),
    (
        HEAD + "class Mine(Cue, method='mine', config=C):\n    pass",
        "method 'mine' does not define count(dims, config)",
    ),
    (
        HEAD + "class Mine(Cue, method='mine', config=int):\n" + COUNTED,
        "the config of method 'mine' is not a dataclass",
    ),
    (HEAD.replace(" = 1", "") + "class Mine(Cue, method='mine', config=C):\n" + COUNTED, "TypeError"),
    (
        "from softcue.tasks import Task, register\nregister(Task('x/y', 'sort', ('f1',), lambda row: "
        "[row], ('x',)))",
        "line 2: task 'x/y' has kind 'sort'",
    ),
    (
        "from softcue.tasks import Task, register\nregister(Task('x/y', 'tag', ('f1',), lambda row: "
        "[row], ('x',)))\na = 1 / 0",
        "line 3: ZeroDivisionError: division by zero",
    ),
]


@pytest.mark.parametrize(("source", "told"), BROKEN)
def test_a_broken_plugin_is_one_line_with_file_and_line_and_leaves_nothing(
    source: str, told: str, tmp_path: Path, fresh: None
) -> None:
    before, known = dict(Cue.registry), all_tasks()
    file = tmp_path / "broken.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(f"plugin {file}") + ".*" + re.escape(told)) as caught:
        load_plugin(file)
    assert "\n" not in str(caught.value)
    assert Cue.registry == before and all_tasks() == known
    assert not any(name.startswith(plugins.PREFIX) for name in sys.modules if name not in plugins._LOADED)


def test_a_plugin_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.py"):
        with pytest.raises(RequestError, match="does not exist; expected a Python file"):
            load_plugin(path)


def test_a_mistake_that_shows_while_training_names_the_plugins_line(
    place: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place / "late.py"
    file.write_text(
        METHOD.replace("nudge", "late").replace(
            "batch.special[:, :1], delta[:, None]", "batch.special[:, :1], nowhere"
        )
    )
    line = 1 + file.read_text().splitlines().index(
        "        return add_rows(hidden, batch.special[:, :1], nowhere)  # slot 0 is [CLS]"
    )
    monkeypatch.chdir(place)
    flags = [
        "--plugin",
        "late.py",
        "--plugin",
        "my_task.py",
        "--data-root",
        "data",
        "--backbone",
        "encoder",
        "--out",
        "adapters/late",
    ]
    assert run_cli(monkeypatch, "train", "desk/urgent", "--method", "late", *flags) == 2
    assert f"late.py, line {line}: NameError: name 'nowhere' is not defined" in capsys.readouterr().err


def test_an_exception_of_our_own_code_is_not_blamed_on_a_plugin() -> None:
    with pytest.raises(RequestError) as caught:
        load_plugin("nowhere.py")
    assert plugins.fault(caught.value) is None


def test_the_source_of_a_plugin_determines_its_digest(place: Path, fresh: None) -> None:
    load_plugin(place / "my_method.py")
    assert len(plugins.source_digest(Cue.registry["nudge"]) or "") == 64
    assert plugins.source_digest(Cue.registry["pasta"]) is None


KIND = """
from softcue.kinds.base import register_kind
from softcue.kinds.classify import Classify

class Mood(Classify):
    name, order, metrics = "NAME", 9, ("METRIC",)

    def say(self, answer, question):
        return {**super().say(answer, question), "mood": True}

register_kind(Mood())
"""


def test_a_plugin_may_bring_a_kind_alone(tmp_path: Path, fresh: None) -> None:
    file = tmp_path / "mood.py"
    file.write_text(KIND.replace("NAME", "mood").replace("METRIC", "macro_f1"))
    assert load_plugin(file) == ["mood"] and file.as_posix() in plugins.loaded_files()
    rows = [{"text": f"{word} the", "label": word} for word in ("owl", "fig") * 10]
    adapter = softcue.train(rows, kind="mood", backbone=tiny_base(), method="probe")
    adapter.save(tmp_path / "adapter")
    (answer,) = api.predict(tmp_path / "adapter", ["owl the"], backbone=tiny_base())
    assert answer["mood"] and adapter.metric == "macro_f1" and adapter.kind == "mood"


@pytest.mark.parametrize(
    ("name", "metric", "told"),
    [("classify", "macro_f1", "there already is a kind 'classify'"), ("mood", "f3", "has the metrics f3")],
)
def test_a_kind_that_cannot_be_changes_nothing(
    name: str, metric: str, told: str, tmp_path: Path, fresh: None
) -> None:
    before = dict(KINDS)
    (tmp_path / "mood.py").write_text(KIND.replace("NAME", name).replace("METRIC", metric))
    with pytest.raises(RequestError, match=told):
        load_plugin(tmp_path / "mood.py")
    assert before == KINDS and list(KINDS) == list(before)
