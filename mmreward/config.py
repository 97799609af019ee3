"""YAML models of a run: rewards with their arguments, the total made of them, and the engine's size.

Keys are checked strictly; an unknown one is refused with the nearest name there is. Describes and makes
nothing: rewards are loaded by `loading`, an engine is made by `Engine.from_config`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .compose import Recipe
from .errors import nearest
from .limits import checked_limits
from .shaping_steps import STEPS, AnyStep
from .strict_yaml import read_yaml

LimitsGiven = Annotated[dict[str, int | float], BeforeValidator(checked_limits)]
"""The section `limits:`; see `limits.Limits`. `limits.set_limits` makes them count."""
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
M = TypeVar("M", bound=BaseModel)


def _filled(given: Any) -> Any:
    return {name: args or {} for name, args in given.items()} if isinstance(given, Mapping) else given


def without_nulls(given: Any, *, hollow: bool = True) -> Any:
    """Data without the keys whose value is null, at any depth: Arrow fills structs up that way.

    Args:
        given: mappings and lists of anything.
        hollow: keep mappings that are empty, or are so once their nulls are gone; else their keys go as well.
    """
    if isinstance(given, list):
        return [without_nulls(value, hollow=hollow) for value in given]
    if not isinstance(given, Mapping):
        return given
    kept = {key: without_nulls(value, hollow=hollow) for key, value in given.items() if value is not None}
    return kept if hollow else {key: value for key, value in kept.items() if value != {}}


def _known_step(given: Any) -> Any:
    if isinstance(given, Mapping) and (name := given.get("name")) not in STEPS:
        raise ValueError(f"no shaping named {name!r}: {nearest(str(name), STEPS)}")
    return given


ShapingSteps = tuple[
    Annotated[Annotated[AnyStep, Field(discriminator="name")], BeforeValidator(_known_step)], ...
]
"""A list of steps, each {name: ..., options}; see `shaping_steps`."""
RewardArgs = Annotated[dict[str, dict[str, Any]], BeforeValidator(_filled)]
"""Your name -> arguments, as `resolve` takes them; a name with nothing after it has no arguments."""


def _of_file(given: Any) -> Any:
    """The rewards of a score file, where a path or a recipe's name stands in their place."""
    return load_config(given).rewards if isinstance(given, str) else _filled(given)


SharedRewards = Annotated[dict[str, dict[str, Any]], BeforeValidator(_of_file)]
"""As `RewardArgs`, or a score file whose rewards they are: `rewards: score/t2i-mix`. Not for what a row of
data brings, which may name no file."""


class Strict(BaseModel):
    """A section of a config file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GrantConfig(Strict):
    """Fields of `cluster.Grant` that differ for one network."""

    actors: Positive | None = None
    num_cpus: Amount | None = None
    num_gpus: Amount | None = None
    resources: dict[str, Amount] | None = None


class RayConfig(Strict):
    """Batches run in Ray actors; see `cluster.RayPlacement`. Needs `mmreward[ray]`."""

    actors: Positive = 2
    num_cpus: Amount = 1.0
    num_gpus: Amount = 0.0
    networks: dict[str, GrantConfig] = {}
    address: str | None = None
    ready_seconds: Annotated[float, Field(gt=0)] = 300.0
    restarts: Annotated[int, Field(ge=0)] = 16


class EngineConfig(Strict):
    """The engine's size; see `Engine` and `Budget`. With `ray`, which device is up to the actors."""

    device: str = "auto"
    tokens: Positive = 16_384
    items: Positive = 256
    cache_bytes: Annotated[int, Field(ge=0)] = 256 << 20
    resident_bytes: Positive | None = None
    workers: Positive = 2
    ray: RayConfig | None = None


class ComposeConfig(Strict):
    """A total made of the rewards; see `compose.Recipe`."""

    weights: dict[str, float]
    gates: dict[str, float] = {}
    normalise: Literal["none", "group"] = "none"
    failed: Literal["propagate", "drop"] = "propagate"
    shaping: ShapingSteps = ()

    def build(self) -> Recipe:
        return Recipe(
            weights=self.weights,
            gates=self.gates,
            normalise=self.normalise,
            failed=self.failed,
            shaping=self.shaping,
        )


class RouteConfig(Strict):
    """Rewards of the samples of one source, by role; `compose.Roles` says how the total is made.

    What is watched is scored and reported, and never paid. A key that is null is one that is not there: Arrow
    fills structs up that way. A single reward without any role is the accuracy.
    """

    rewards: RewardArgs = Field(min_length=1)
    accuracy: dict[str, Weight] = {}
    format: dict[str, Weight] = {}
    extra: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    gates: dict[str, float] = {}
    soft_gates: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    watch: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = {}
    shaping: ShapingSteps = ()

    @model_validator(mode="before")
    @classmethod
    def _cleared(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("rewards") is not None:
            given = {**given, "rewards": _filled(given["rewards"])}
        return without_nulls(given)


class Config(Strict):
    """One run. `rewards` maps your name to arguments; the keys `reward`, `columns` and `python` among them
    name the reward if it differs, its columns, and the interpreter it runs in (see `resolve`). `routes` maps
    a source, or a glob of sources, to how its samples are scored; the first that matches is taken. `limits`
    says how much a row may hold, see `limits.Limits`. `trackers` log a run of `mmreward score`: tensorboard,
    wandb, trackio."""

    rewards: RewardArgs = {}
    routes: dict[str, RouteConfig] = {}
    compose: ComposeConfig | None = None
    engine: EngineConfig = EngineConfig()
    limits: LimitsGiven = {}
    trackers: tuple[str, ...] = ()


def load_config(path: str | Path) -> Config:
    """Read what a run scores from a YAML file; raises as `load_yaml`."""
    return load_yaml(path, Config)


def load_yaml(path: str | Path, model: type[M]) -> M:
    """Read a YAML file that describes a `model`, or a recipe of the package by its name.

    Raises:
        ValueError: no such file, not YAML (see `strict_yaml`), a key given twice, an unknown key, or a value
            of the wrong type; the message names the key.
    """
    path = config_at(path)
    raw = read_yaml(path)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} holds {type(raw).__name__}, not a mapping with the key 'rewards'")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(problems(error, model))) from None


def config_at(path: str | Path) -> Path:
    """The file at a path, else the package's recipe of that name: "tune/mini-grpo" and
    "configs/tune/mini-grpo.yaml" are found wherever the command is run.

    Raises:
        ValueError: neither; the message offers the nearest recipes.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name one YAML file in it")
    if path.exists():
        return path
    return recipe_at(path)[1]


def recipes() -> dict[str, Path]:
    """The package's own recipes by name, such as "tune/mini-grpo", in their order."""
    shipped = Path(str(files("mmreward.configs")))
    found = sorted(shipped.glob("*/*.yaml"))
    return {one.relative_to(shipped).with_suffix("").as_posix(): one for one in found}


def recipe_at(path: str | Path) -> tuple[str, Path]:
    """The name and file of the package's recipe of a name, with "configs/" and ".yaml" or without.

    Raises:
        ValueError: there is none; the message offers the nearest recipes.
    """
    path, known = Path(path), recipes()
    name = path.with_suffix("") if path.suffix in (".yaml", ".yml") else path
    wanted = name.as_posix().removeprefix("configs/")
    if wanted not in known:
        near = get_close_matches(wanted, known, n=1)
        hint = f"did you mean the recipe {near[0]!r}?" if near else "recipes are named as tune/mini-grpo is"
        raise ValueError(f"no config at {path}: {hint}")
    return wanted, known[wanted]


def problems(error: ValidationError, model: type[BaseModel] = Config) -> Iterator[str]:
    """Mistakes in what `model` was given, key by key, with the nearest names there are."""
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            names = list(_keys(_section(problem["loc"], model)))
            yield f"unknown key {where!r}: {nearest(str(problem['loc'][-1]), names)}"
        elif where in ("", "limits") and problem["type"] == "value_error":  # the message says where it is
            yield str(problem["ctx"]["error"])
        else:
            yield f"{where}: {problem['msg']}, got {problem['input']!r}"


def _section(loc: tuple[int | str, ...], model: type) -> type:
    """The model that a key at this place belongs to: follows the models in the types of a `model`'s
    fields."""
    choices: list[type] = []
    for step in loc[:-1]:
        keys = _keys(model)
        if str(step) in keys:
            inner = _models(keys[str(step)])
            model = inner[0] if inner else model
            choices = inner
        else:  # the tag of a union, the key of a mapping, or the place in a list
            tagged = [choice for choice in choices if _has_tag(choice, str(step))]
            model = tagged[0] if tagged else model
    return model


def _keys(model: type) -> dict[str, Any]:
    """Key -> type of a pydantic model, or of a dataclass that pydantic checks."""
    if is_dataclass(model):
        return {field.name: field.type for field in fields(model)}
    return {name: field.annotation for name, field in model.model_fields.items()}  # type: ignore[attr-defined]


def _models(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _has_tag(model: type, tag: str) -> bool:
    return any(tag in get_args(annotation) for annotation in _keys(model).values())
