"""Recipes: published settings, one TOML file each, that `softcue train --recipe NAME` starts from."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from softcue.errors import SettingsError

# the fields of a recipe that `softcue train` has a flag for
FLAGS = ("method", "backbone", "seed", "pooling", "limit")


@dataclass(frozen=True)
class Recipe:
    """The settings of one published run, and their source."""

    name: str
    method: str
    task: str  # a benchmark's name
    backbone: str  # a Hugging Face id
    source: str  # repository and commit
    grade: str  # as in docs/methods
    template: str  # describes how the task's fields become texts; the task's own template does it
    limit: int  # most tokens of an example
    seed: int
    settings: Mapping[str, Any]  # fields of the method's config
    training: Mapping[str, Any]  # fields of Training
    pooling: str | None = None  # None: the task reads every word
    note: str = ""  # differences from the published run


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    names = [file.name for file in files("softcue").joinpath("recipes").iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """Read a recipe by its name.

    Raises RequestError for an unknown name; the message suggests similar names.
    """
    names = recipe_names()
    if name not in names:
        asked = set(name.split("-"))
        close = [known for known in names if asked <= set(known.split("-"))]
        close = close or get_close_matches(name, names, 5, 0.5)
        hint = f"expected METHOD-TASK-BACKBONE, as in {names[0]}"
        if close:
            hint = f"similar names: {', '.join(close)}"
        raise SettingsError(f"there is no recipe {name!r}; {hint} (docs/recipes.md lists all {len(names)})")
    text = files("softcue").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    return Recipe(name=name, **tomllib.loads(text))


def train_arguments(recipe: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for api.train: those of the recipe, overridden by the user's.

    given: the user's arguments; None means not given. Raises RequestError if there is neither a recipe nor
    data, and if the method is not the recipe's.
    """
    named = {name: value for name, value in given.items() if value is not None and name != "settings"}
    settings = given.get("settings") or {}
    if recipe is None:
        if "data" not in named:
            raise SettingsError(
                "no data came; give a folder, a file, a benchmark's name or hf:ID, or --recipe NAME"
            )
        return {**named, "settings": dict(settings)}
    found = load_recipe(recipe)
    if named.get("method", found.method) != found.method:
        raise SettingsError(
            f"recipe {recipe} is for {found.method}, but --method {named['method']} came; leave out one of "
            "them"
        )
    published = {"data": found.task, **{name: getattr(found, name) for name in FLAGS}}
    return {**published, **named, "settings": {**found.settings, **found.training, **settings}}
