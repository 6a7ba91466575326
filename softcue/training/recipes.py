"""Recipes: published settings, one TOML file each, that `softcue train --recipe NAME` starts from."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from softcue.errors import SettingsError

# what a recipe says that `softcue train` has a flag for
FLAGS = ("method", "backbone", "seed", "pooling", "limit")


@dataclass(frozen=True)
class Recipe:
    """What one published run used, and where that is written."""

    name: str
    method: str
    task: str  # a benchmark's name
    backbone: str  # a Hugging Face id
    source: str  # repository and commit
    grade: str  # as in docs/methods
    template: str  # how the task's fields become texts; the task does it
    limit: int  # longest example in tokens
    seed: int
    settings: Mapping[str, Any]  # fields of the method's config
    training: Mapping[str, Any]  # fields of Training
    pooling: str | None = None  # None: the task reads every word
    note: str = ""  # where the published run did something else


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(
        file.name.removesuffix(".toml")
        for file in files("softcue").joinpath("recipes").iterdir()
        if file.name.endswith(".toml")
    )


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name; SettingsError with the close ones for an unknown name."""
    names = recipe_names()
    if name not in names:
        close = [
            known for known in names if set(name.split("-")) <= set(known.split("-"))
        ] or get_close_matches(name, names, 5, 0.5)
        told = (
            f"close to it: {', '.join(close)}"
            if close
            else f"expected METHOD-TASK-BACKBONE, as in {names[0]}"
        )
        raise SettingsError(
            f"there is no recipe {name!r}; {told} (all {len(names)} stand in docs/recipes.md)"
        )
    return Recipe(
        name=name,
        **tomllib.loads(files("softcue").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")),
    )


def train_arguments(recipe: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what api.train is to be called with: what the user gave, over the recipe.

    None is not given.

    Raises RequestError where there is neither a recipe nor data, and for a method that is not the recipe's.
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
            f"recipe {recipe} is for {found.method}; --method {named['method']} came: leave it out, or the "
            "recipe"
        )
    own = {"data": found.task, **{name: getattr(found, name) for name in FLAGS}}
    return {**own, **named, "settings": {**found.settings, **found.training, **settings}}
