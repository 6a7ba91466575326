"""The layout of the package: imports go one way, modules stay small, and the command line starts fast."""

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "softcue"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room is a folder, or a module beside the folders. It imports only from lines above its own; neighbours do
# not know each other.
LEVELS = (
    ("errors",),
    ("files", "options", "text"),
    ("batch",),
    ("kernels", "protocol"),
    ("kinds", "rows"),
    ("attention", "cues", "heads", "mixture", "scoring"),
    ("encoder", "readers"),
    ("tasks",),
    ("adapter", "base", "model"),
    ("answering", "bank", "plugins"),
    ("training",),
    ("studies",),
    ("inspection", "serving"),
    ("api",),
    ("interop",),
    ("cli",),
)
MODULES_BESIDE = 14  # modules beside the folders, at most
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# of the package itself: all they do is to point at other modules
EXEMPT = ("__init__", "__main__", "__version__")
SLOW_TO_IMPORT = (
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "datasets",
    "matplotlib",
    "fastapi",
    "uvicorn",
    "pydantic",
    "prometheus_client",
    "mlflow",
    "spacy",
    "pandas",
)


def part_of(path: Path) -> str:
    """softcue/batch.py -> batch; softcue/cues/pasta.py -> cues."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def own_imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[ast.stmt, str]]:
    """Every import of our own package, with the part that it takes from; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            targets = [[*module, alias.name] if len(module) == 1 else module for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] == "softcue":
                yield node, target[1] if len(target) > 1 else "__init__"


def functions(tree: ast.AST) -> Iterator[ast.AST]:
    return (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )


def violations(importer: str, tree: ast.Module, package: tuple[str, ...]) -> list[str]:
    """Imports of `importer` that do not go up the table."""
    found = []
    for node, imported in own_imports(tree, package):
        if imported == importer or imported in EXEMPT:
            continue
        if imported not in LEVEL:
            found.append(
                f"line {node.lineno}: {imported} is in no line of LEVELS in tests/test_layout.py; add it "
                "there"
            )
        elif LEVEL[imported] >= LEVEL[importer]:
            found.append(
                f"line {node.lineno}: {importer} (line {LEVEL[importer]}) imports {imported} (line "
                f"{LEVEL[imported]})"
            )
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_levels_above_its_own(path: Path) -> None:
    part = part_of(path)
    if part in EXEMPT:
        return
    assert part in LEVEL, f"{name_of(path)} is new: add '{part}' to a line of LEVELS in tests/test_layout.py"
    assert not violations(part, tree_of(path), path.relative_to(PACKAGE.parent).parts[:-1])


def test_the_package_is_rooms_and_few_modules_beside_them() -> None:
    beside = [path.name for path in PACKAGE.glob("*.py")]
    assert len(beside) <= MODULES_BESIDE, beside
    rooms = {part_of(path) for path in MODULES} - set(EXEMPT)
    assert rooms == set(LEVEL), "LEVELS in tests/test_layout.py names the rooms that there are, and no others"


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("batch", "from softcue.model import Model"),
        ("text", "import softcue.model"),
        ("heads", "from softcue import cues"),
        ("cues", "from ..heads import Head"),
        ("errors", "from . import batch"),
        ("text", "from softcue.novelty import thing"),
        ("readers", "def late():\n    from softcue.training import jobs"),
    ],
)
def test_the_import_check_sees_a_planted_violation(importer: str, source: str) -> None:
    package = ("softcue", "cues") if importer == "cues" else ("softcue",)
    assert len(violations(importer, ast.parse(source), package)) == 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_command_line_imports_our_package_inside_functions(path: Path) -> None:
    if part_of(path) == "cli":
        return
    late = [
        node.lineno
        for function in functions(tree_of(path))
        for node, _ in own_imports(function, ("softcue",))
    ]
    assert not late, f"imports inside functions of {name_of(path)}, lines {late}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_at_most_300_lines_and_opens_with_a_sentence(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    sentence = ast.get_docstring(tree_of(path))
    assert sentence, f"{name_of(path)} has no docstring"
    assert sentence.split("\n\n")[0].rstrip().endswith("."), f"{name_of(path)} opens without a whole sentence"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_asks_hasattr_and_nothing_is_pickled(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        assert not (isinstance(node, ast.Name) and node.id == "hasattr"), f"hasattr in line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", None) or "").split(".")[0]
            }
            assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, (
                f"line {node.lineno}"
            )


def registered() -> dict[str, set[Path]]:
    """Every method and family name, with the files that may ask for it."""
    names: dict[str, set[Path]] = {"full": {PACKAGE / "training" / "full.py"}}
    for path in [*PACKAGE.glob("cues/*.py"), *PACKAGE.glob("encoder/*.py")]:
        for node in ast.walk(tree_of(path)):
            keywords = [*node.keywords] if isinstance(node, ast.ClassDef | ast.Call) else []
            for keyword in keywords:
                if keyword.arg in ("method", "models"):
                    for value in strings(keyword.value):
                        names.setdefault(value, set()).add(path)
    return names


def strings(node: ast.AST) -> list[str]:
    return [
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


def asked(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a comparison or a `match` holds against something called method, family or model type."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            about = [side for side in sides if ends_in(side)]
            values = [value for side in sides if side not in about for value in strings(side)]
        elif isinstance(node, ast.Match):
            about = [node.subject] if ends_in(node.subject) else []
            values = [value for case in node.cases for value in strings(case.pattern)]
        else:
            continue
        if about:
            yield from ((node.lineno, value) for value in values)


def ends_in(node: ast.AST) -> bool:
    """True for `method`, `job.method`, `header["model_type"]`, `config.get("model_type")`."""
    if isinstance(node, ast.Call):
        return ends_in(node.func) or any(ends_in(part) for part in node.args)
    if isinstance(node, ast.Subscript):
        return ends_in(node.slice)
    last = (
        node.id
        if isinstance(node, ast.Name)
        else node.attr
        if isinstance(node, ast.Attribute)
        else getattr(node, "value", None)
    )
    return last in ("method", "family", "model_type")


def ends_in_kind(node: ast.AST) -> bool:
    """True for `kind`, `job.data.kind`, `header["kind"]`."""
    if isinstance(node, ast.Subscript):
        return ends_in_kind(node.slice)
    if isinstance(node, ast.Constant):
        return node.value == "kind"
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)) == "kind"


def test_the_registered_names_are_found() -> None:
    assert {"pasta", "stp", "spt", "gpc", "apt", "bert", "roberta", "modernbert", "full"} <= set(registered())


def test_the_name_check_sees_a_planted_comparison() -> None:
    planted = (
        'if job.method == "pasta" or config["model_type"] in ("bert", "roberta") or '
        'config.get("model_type") != "mpnet": pass'
    )
    assert {value for _, value in asked(ast.parse(planted))} == {"pasta", "bert", "roberta", "mpnet"}
    assert not list(asked(ast.parse('if kind == "tag" or method in table: pass')))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_asks_for_a_method_or_family_by_name_but_its_own_file(path: Path) -> None:
    owners = registered()
    found = [
        (line, value) for line, value in asked(tree_of(path)) if value in owners and path not in owners[value]
    ]
    assert not found, f"{name_of(path)} compares with registered names: {found}"


def test_the_command_line_is_imported_without_the_heavy_libraries() -> None:
    script = (
        f"import json, sys; import softcue.cli; print(json.dumps([name for name in {SLOW_TO_IMPORT} if "
        "name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert json.loads(done.stdout) == []


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "softcue", "--help"], capture_output=True, text=True, cwd=PACKAGE.parent
        )
        assert done.returncode == 0, done.stderr
        assert "train" in done.stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5


def public_names(path: Path) -> Iterator[str]:
    """The names that a module defines for others: functions, classes, constants and types."""
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        yield from (one.id for t in targets for one in ast.walk(t) if isinstance(one, ast.Name))


def test_no_two_public_names_are_the_same() -> None:
    """One word, one thing: whoever greps a name finds what it stands for."""
    where: dict[str, list[str]] = {}
    for path in MODULES:
        for name in public_names(path):
            if not name.startswith("_"):
                where.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert not {name: files for name, files in where.items() if len(files) > 1}
