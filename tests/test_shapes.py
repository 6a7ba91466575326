"""Public functions on tensors say the shapes of every argument and of the result, in the
letters of docs/shapes.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "softcue").rglob("*.py"))
SHAPE = re.compile(r"\(((?:[\w.|*+/ -]*)(?:,[\w.|*+/ -]*)*)\)")
LETTERS = set(
    re.findall(r"^\| ([A-Za-z](?:, [A-Za-z])*) \|", (ROOT / "docs" / "shapes.md").read_text(), re.M)
)
KNOWN = {letter for group in LETTERS for letter in group.split(", ")}
SMALL = {"b", "t", "M"}  # of a part or a bucket, as docs/shapes.md says


def is_shape(inside: str) -> bool:
    """Say whether "N, D" is a shape: each axis a letter, a number, a sum of them, `..`, or a small word."""
    axes = [axis.strip() for axis in inside.split(",") if axis.strip()]
    return bool(axes) and all(
        axis == ".." or all(is_axis(part) for part in re.split(r"[|*+/ -]+", axis) if part) for axis in axes
    )


def is_axis(name: str) -> bool:
    return name in KNOWN | SMALL or name.isdigit() or (name.islower() and len(name) > 1)


def shapes(text: str) -> int:
    return sum(is_shape(inside) for inside in SHAPE.findall(text)) + text.count("()")


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions and methods without an underscore; autograd's own forward and backward are private."""
    nodes: list[ast.stmt] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if not any("Function" in ast.unparse(base) for base in node.bases):
                nodes += node.body
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def unsaid(source: str) -> list[str]:
    """Return the functions of a module that do not say their shapes."""
    lines, found = source.split("\n"), []
    for function in public_functions(ast.parse(source)):
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        wanted = sum(a.annotation is not None and ast.unparse(a.annotation) == "Tensor" for a in given)
        result = "" if function.returns is None else ast.unparse(function.returns)
        wanted += bool(wanted) and re.search(r"\bTensor\b", result) is not None
        header = lines[function.lineno - 1 : function.body[0].lineno - 1]
        comments = "\n".join(line.split("#", 1)[1] for line in header if "#" in line)
        if shapes(comments + "\n" + (ast.get_docstring(function) or "")) < wanted:
            found.append(f"{function.name} (line {function.lineno})")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_public_function_on_tensors_says_its_shapes(path: Path) -> None:
    assert unsaid(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("docstring", "fails"),
    [
        ("Add rows: (N, D), (M,) -> (M, D).", False),
        ("Add rows: (N, D) -> (M, D).", True),
        ("Add rows: (N, D), (M,).", True),
        ("Add rows: (N, D), (rows) -> (Q, D).", True),
        ("Add rows.", True),
    ],
)
def test_the_check_sees_planted_functions(docstring: str, fails: bool) -> None:
    source = f'def add(x: Tensor, row: Tensor, by: int = 1) -> Tensor:\n    """{docstring}"""\n'
    assert bool(unsaid(source)) == fails
    assert unsaid(source.replace("def add", "def _add")) == []
