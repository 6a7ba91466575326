"""Runs the command line on damaged inputs, each case in a process of its own with limits:
python -m tests.soak.inputs CASE [LAST]

A case is its number. It passes where the exit code is 0 or 2, within 10 seconds and 2 GiB more than before,
without a traceback, without a character that steers the terminal, and with no file touched but those that
were asked for.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import softcue.answering.predict
import softcue.cli.show
import softcue.studies.compare
import softcue.studies.sweep
import softcue.training.recipes  # noqa: F401  (loaded once, before the forks)
from softcue import cli
from softcue.errors import visible
from tests.answering.test_predict import random_adapter
from tests.soak.mutate import damage, flags
from tests.soak.odd import odd_file
from tests.tiny_base import base_folder, tiny_base

# a hang takes longer than training on the largest input, which takes 40 s on a slow machine with others on it
SECONDS, MEMORY = 90, 2 * 2**30
TEXTS = ("an owl and a fig", "gold on tin", "the apple, a pear", "Alice was in paris", "iron or lead")


@dataclass(frozen=True)
class Case:
    """What is run, and in which folder."""

    files: dict[str, bytes]
    arguments: list[str]


def formats() -> dict[str, bytes]:
    """A sound file of every format and kind."""
    rows = [{"text": text, "label": "bird" if at % 2 else "metal"} for at, text in enumerate(TEXTS * 5)]
    pairs = [{**row, "text_pair": "a crow"} for row in rows]
    scores = [{"text": row["text"], "label": at / 3} for at, row in enumerate(rows)]
    choices = [
        {"text": row["text"], "choices": ["owl", "fig"], "label": at % 2} for at, row in enumerate(rows)
    ]
    tags = [
        {"tokens": row["text"].split(), "tags": ["B-PER", *["O"] * (len(row["text"].split()) - 1)]}
        for row in rows
    ]
    kinds = {"rows": rows, "pairs": pairs, "scores": scores, "choices": choices, "tags": tags}
    files = {f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in own) for name, own in kinds.items()}
    files["list.json"] = json.dumps(rows, indent=1)
    span = {"text": TEXTS[0], "entities": [{"start": 3, "end": 6, "label": "BIRD"}]}
    files["spans.jsonl"] = (json.dumps(span) + "\n" + '{"text": "on tin", "entities": []}\n') * 12
    files["semicolons.csv"] = "Text;LABEL\n" + "".join(f"{row['text']};{row['label']}\n" for row in rows)
    files["rows.csv"] = "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in rows)
    files["rows.tsv"] = "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows)
    files["tags.conll"] = "\n".join(
        "".join(f"{word} {tag}\n" for word, tag in zip(r["tokens"], r["tags"], strict=True)) for r in tags
    )
    return {name: text.encode() for name, text in files.items()}


@cache
def adapters() -> dict[str, dict[str, bytes]]:
    """The two files of some adapters of the tiny encoder."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for method, kind in (("pasta", "classify"), ("spt", "tag"), ("gpc", "score"), ("lora", "choice")):
            folder = random_adapter(tiny_base(), method, kind, backbone=str(base_folder())).save(
                Path(place, method)
            )
            found[kind] = {file.name: file.read_bytes() for file in folder.iterdir()}
    return found


def make(number: int) -> Case:
    """The case of this number."""
    chance = random.Random(f"softcue {number}")
    name, sound = chance.choice(sorted(formats().items()))
    kind = chance.choice(sorted(adapters()))
    adapter = {f"adapter/{file}": data for file, data in adapters()[kind].items()}
    train = [
        "train",
        name,
        "--out",
        "out",
        "--backbone",
        str(base_folder()),
        "--set",
        "epochs=1",
        "--method",
        "bitfit",
    ]
    sort = chance.randrange(7)
    if sort == 0:
        return Case({name: damage(sound, chance)}, train)
    if sort == 1:
        return Case(
            {name: damage(sound, chance), **adapter},
            ["eval", "adapter", name, "--split", chance.choice(("train", "dev", "test"))],
        )
    if sort == 2:
        return Case(
            {name: damage(sound, chance), **adapter}, ["predict", "adapter", "--file", name, "--out", "out"]
        )
    if sort == 3:
        file = chance.choice(sorted(adapter))
        damaged = {**adapter, file: damage(adapter[file], chance)}
        return Case(
            damaged,
            chance.choice(
                (["info", "adapter"], ["predict", "adapter", "an owl"], ["info", "adapter", "--json"])
            ),
        )
    if sort == 4:
        return Case({name: sound, "recipe.toml": b""}, [*train, *flags(chance)])
    if sort == 5:
        return with_odd_file(number, adapter, train)
    command = chance.choice(("sweep", "compare"))
    method = ["--method" if command == "sweep" else "--methods", "bitfit"]
    small = ["--set", "epochs=1"] if command == "sweep" else ["--epochs", "1", "--seeds", "1"]
    return Case(
        {name: sound},
        [command, name, "--out", "out", "--backbone", str(base_folder()), *method, *small, *flags(chance)],
    )


def with_odd_file(number: int, adapter: dict[str, bytes], train: list[str]) -> Case:
    """A case of a file as programs and people write them."""
    odd = odd_file(number)
    how = [] if odd.encoding is None else ["--encoding", odd.encoding]
    words = (
        [odd.name if word == train[1] else word for word in train],
        ["eval", "adapter", odd.name],
        ["predict", "adapter", "--file", odd.name, "--out", "out"],
    )
    return Case({odd.name: odd.data, **adapter}, [*words[number % 3], *how])


def run(number: int) -> str | None:
    """What is wrong with a case, or None."""
    case, place = make(number), Path(tempfile.mkdtemp(prefix="softcue-soak-"))
    try:
        for name, data in case.files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(data)
        return judge(case, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def judge(case: Case, place: Path) -> str | None:
    """Run the command line on a case and look at what it left."""
    before = listing(place)
    with tempfile.TemporaryFile() as said:
        began, child = time.monotonic(), os.fork()
        if child == 0:
            os._exit(answer(case.arguments, place, said.fileno()))
        status = wait(child)
        said.seek(0)
        text = said.read().decode("utf-8", "backslashreplace")
    told = f"{' '.join(case.arguments)!r:.300}: {text[-600:]!r}"
    if status is None:
        return f"took more than {time.monotonic() - began:.0f} s: {told}"
    if os.waitstatus_to_exitcode(status) not in (0, 2) or "Traceback" in text:
        return f"exit {os.waitstatus_to_exitcode(status)}: {told}"
    if visible(text) != text:
        return f"a character that steers the terminal: {told}"
    after = listing(place)
    changed = [
        name
        for name in {*before, *after}
        if before.get(name) != after.get(name) and Path(name).parts[0] != "out"
    ]
    unfinished = [name for name in after if "softcue-writing" in name or "softcue-aside" in name]
    return f"left {changed + unfinished}: {told}" if changed or unfinished else None


def answer(arguments: Sequence[str], place: Path, said: int) -> int:
    """In the child: the command's exit code."""
    os.setsid()
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(place)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.argv = ["softcue", *arguments]
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        for number in (1, 2)
    )
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException as error:
        print(f"Traceback of {type(error).__name__}: {error!s:.300}", file=sys.stderr)
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def wait(child: int) -> int | None:
    """The child's status, or None where it had to be killed."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def listing(place: Path) -> dict[str, str]:
    """Every file under a folder, with a hash of what it holds."""
    return {
        str(p.relative_to(place)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in place.rglob("*")
        if p.is_file()
    }


def failures(numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The cases that fail, with what is wrong."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for number in numbers:
        wrong = run(number)
        if wrong is not None:
            yield number, wrong


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[-1])
    wrong = 0
    for number, why in failures(range(first, last + 1)):
        wrong += 1
        print(f"case {number}: {why}", flush=True)
    print(f"{last + 1 - first} cases, {wrong} wrong")
    sys.exit(wrong > 0)
