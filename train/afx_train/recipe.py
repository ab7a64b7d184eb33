"""A training recipe: one validated TOML file naming the base model, the data and the adapters."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from afx_train.errors import RecipeError
from afx_train.expansion import expanded
from agentflux.contracts.bundle import Name
from agentflux.contracts.cache import model_folder
from agentflux.contracts.prompts import Boundary, ChatFormat, Role

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

_SECTIONS = ("lora", "training", "examples")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Lora(_Section):
    """The shape of an adapter. The defaults suit models of 0.1 to 1 billion parameters."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the two matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the adapter's output is multiplied by alpha/rank (alpha/sqrt(rank) with rslora)."""
    rslora: bool = False
    """Rank-stabilized scaling (arXiv:2312.03732); worth it from rank 64 on."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Linear layers that get a branch. Fewer sites decode faster on the device."""
    first_layer: int = Field(default=0, ge=0)
    """First decoder layer with branches. The layers below stay the base's: they run once a row, and
    later epochs start at this one."""

    @property
    def scale(self) -> float:
        """What the adapter's output is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)

    def scaled_to(self, rank: int) -> "Lora":
        """Another rank at the same scale of the adapter's output."""
        share = rank / self.rank
        alpha = self.alpha * (share**0.5 if self.rslora else share)
        return self.model_copy(update={"rank": rank, "alpha": alpha})


class Training(_Section):
    """How the optimizer goes over the examples."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of the schedule."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the examples. The epoch that is best on the dev split is kept."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs in a row that were not better on the dev split. Unset: never."""
    start_share: float = Field(default=0.0, ge=0, lt=1)
    """Share that the weights it started from have in the result, which is their average with the
    trained ones (arXiv:2109.01903); for a `warm_start` that was good already."""
    batch_tokens: int = Field(default=640, ge=16)
    """Tokens a batch: all of its rows but the prefix that they share."""
    accumulate: int = Field(default=1, ge=1)
    """Batches an optimizer step."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of all steps over which the learning rate rises to its peak."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after the warmup, to a twentieth of its peak."""
    recall_gib: float = Field(default=1.0, ge=0)
    """Memory for what the base computed before the boundary, recalled in later epochs."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    easy_loss: float = Field(default=0.01, ge=0)
    """An example is easy once the loss of each of its target tokens is below this. 0: none is."""
    easy_kept: float = Field(default=0.35, ge=0, le=1)
    """Share of the easy examples that the next epoch goes over again; the others rest."""
    dev_examples: int = Field(default=200, ge=1)
    """At most so many dev examples are evaluated after each epoch."""
    precision: Precision = "auto"
    """Of the products with the frozen weights; all else is fp32. auto takes bf16 on CUDA and on
    CPUs with instructions for it (AVX512-BF16), fp32 elsewhere."""


class ExampleShares(_Section):
    """How examples are derived from trajectories."""

    route_finish: float = Field(default=0.25, ge=0, le=1)
    """Share of single-call trajectories that also give a `finish` example of the router."""
    select_none: float = Field(default=0.15, ge=0)
    """Requests that the tool set cannot serve (`none`), as a share of the selector's positives."""
    select_finish: float = Field(default=0.15, ge=0)
    """`finish` examples after a last call of the tool set, as a share of the positives."""
    catalog_variants: int = Field(default=6, ge=1)
    """Renderings of the catalog: the plain one, then shuffled ones; from four on every other one is
    shortened, so that each name is missing from one."""
    sets_offered: int = Field(default=8, ge=2)
    """A data folder of more tool sets than this is no catalog that a device would show: the router
    meets it in parts of 2 to so many sets, each set in `catalog_variants` of them."""
    guests: int = Field(default=0, ge=0)
    """At most so many tool sets of a folder that is offered in parts stand beside those of a whole
    one, in further renderings of both: an app connects servers of its own beside those that were
    trained for. 0: the router never meets two folders' sets in one list."""
    masked_variants: int = Field(default=0, ge=0)
    """More renderings for a selector whose names say nothing or whose descriptions are missing
    (arXiv:2410.04587); worth it for tools that training does not see."""
    plain_share: float = Field(default=0.4, ge=0, le=1)
    """Share of the examples that see the plain catalog."""
    described: bool = False
    """An argument writer reads the types and descriptions of the tool's parameters: for one that
    serves tools which training does not see."""
    context_dropped: float = Field(default=0.0, ge=0, le=1)
    """Share of the router's and selectors' training examples that are shown without the context,
    which seldom decides there: they cost less, and a host may give none."""
    gold_removed: float = Field(default=0.06, ge=0, le=1)
    """Share of first-call examples whose right answer is missing from the catalog (`none`): of a
    catalog that is offered in parts, or that has shortened renderings."""
    balance_cap: float = Field(default=2.0, gt=0)
    """A label gives at most so many times the median label's examples an epoch. Calls of a shape
    that is seldom for their tool (an optional parameter, several items) come early in it, since
    what one call in ten has is else not learned."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows that is used, the same ones in every epoch."""
    max_row_tokens: int = Field(default=512, ge=16)
    """Longer rows (without the shared prefix) are left out of training; they cost the most."""
    max_examples: int | None = Field(default=None, ge=1)
    """At most so many examples an epoch, drawn anew each time."""


class AdapterPlan(_Section):
    """One adapter to train. Without a tool set it serves every set, without a tool every tool."""

    name: Name
    """Name of the adapter and of its folder, such as `select.git`."""
    subtask: Role
    """route, select or arguments; joint learns the examples of several other adapters."""
    each: Literal["tool_set", "tool"] | None = None
    """One such adapter for each tool set of the data, or for each tool, with calls to learn in the
    train and the dev split; `{tool_set}` and `{tool}` stand in the name (and in warm_start or
    delta_of)."""
    tool_set: str | None = None
    """The tool set that it serves."""
    tool: str | None = None
    """The one tool that it serves (arguments only)."""
    boundary: Boundary | None = None
    """From where this adapter acts, where it differs from the recipe's."""
    warm_start: str | None = None
    """Whose weights it starts from: another adapter of this recipe, trained earlier, or one in a
    folder, as a path with a slash (relative to the recipe). Its rank may differ: a larger one is
    cut to its strongest directions."""
    delta_of: str | None = None
    """Another adapter of this recipe, trained earlier, whose weights stay as they are; only
    `lora.rank` more of rank is trained. The result holds both."""
    of: tuple[str, ...] = ()
    """joint only: the adapters whose examples it learns. Empty: all others of the recipe."""
    matched: bool = False
    """joint only: raise the rank until it has as many parameters as those adapters together."""
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Keys of `lora`, `training` or `examples` that differ for this adapter."""

    @model_validator(mode="after")
    def _placed(self) -> Self:
        problem = ""
        if self.tool is not None and (self.subtask != "arguments" or self.tool_set is None):
            problem = "`tool` needs subtask 'arguments' and a tool_set"
        elif self.subtask in ("route", "joint") and self.tool_set is not None:
            problem = f"subtask {self.subtask!r} spans all tool sets and has no tool_set of its own"
        elif self.each is not None:
            problem = "`each` needs a data folder with tools; read the recipe from its file"
        elif self.subtask != "joint" and (self.of or self.matched):
            problem = "`of` and `matched` belong to subtask 'joint'"
        elif self.warm_start is not None and self.delta_of is not None:
            problem = "has both warm_start and delta_of; choose one"
        elif unknown := sorted(set(self.overrides) - set(_SECTIONS)):
            problem = f"overrides has unknown section {unknown[0]!r}; known: {', '.join(_SECTIONS)}"
        if problem:
            raise ValueError(f"adapter {self.name!r}: {problem}")
        return self

    @property
    def origin(self) -> str | None:
        """The adapter of this recipe that has to be trained before this one."""
        return self.delta_of if self.starts_from_folder else self.warm_start or self.delta_of

    @property
    def starts_from_folder(self) -> bool:
        """Whether warm_start is a path."""
        return self.warm_start is not None and "/" in self.warm_start


class Recipe(_Section):
    """The whole file."""

    base_model: str
    """A Hugging Face folder (relative to the recipe) or a catalogue name of `afx-export fetch`."""
    data: tuple[str, ...] = Field(min_length=1)
    """Data folders made by `afx-train data build` (relative to the recipe)."""
    seed: int = 7
    """Everything random follows from it."""
    boundary: Boundary = "request"
    """From where the adapters act; see agentflux.contracts.prompts."""
    chat: ChatFormat = Field(default_factory=ChatFormat)
    """The model's turn markers. Default: ChatML."""
    lora: Lora = Lora()
    training: Training = Training()
    examples: ExampleShares = ExampleShares()
    adapters: tuple[AdapterPlan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _plan(self) -> Self:
        seen: set[str] = set()
        for plan in self.adapters:
            if plan.name in seen:
                raise ValueError(f"adapter {plan.name!r} stands twice in the plan")
            if plan.origin is not None and plan.origin not in seen:
                key = "warm_start" if plan.warm_start else "delta_of"
                raise ValueError(
                    f"adapter {plan.name!r}: {key} {plan.origin!r} does not stand "
                    "earlier in the plan"
                )
            seen.add(plan.name)
        for plan in self.adapters:
            epochs = self.settings(plan).training.epochs
            if epochs > max(self.settings(part).training.epochs for part in self.parts(plan)):
                raise ValueError(f"adapter {plan.name!r} has more epochs than any of its parts")
        return self

    def named(self, name: str) -> AdapterPlan:
        """Find an adapter.

        Raises:
            ValueError: there is none of that name; lists those that are.
        """
        for plan in self.adapters:
            if plan.name == name:
                return plan
        known = ", ".join(plan.name for plan in self.adapters)
        raise ValueError(f"has no adapter {name!r}; it has {known}")

    def parts(self, plan: AdapterPlan) -> tuple[AdapterPlan, ...]:
        """The plans whose examples an adapter learns: its own, unless it is joint."""
        if plan.subtask != "joint":
            return (plan,)
        chosen = [self.named(name) for name in plan.of] or [
            p for p in self.adapters if p.subtask != "joint" and p.delta_of is None
        ]
        if not chosen or any(part.subtask == "joint" for part in chosen):
            raise ValueError(f"adapter {plan.name!r} is joint and needs others that are not")
        return tuple(chosen)

    def boundary_of(self, plan: AdapterPlan) -> Boundary:
        """Return from where an adapter acts."""
        return plan.boundary or self.boundary

    def settings(self, plan: AdapterPlan) -> "Settings":
        """Return the sections that hold for one adapter, its overrides applied."""
        merged: dict[str, Any] = {}
        for key in _SECTIONS:
            section: _Section = getattr(self, key)
            changed = section.model_dump() | plan.overrides.get(key, {})
            merged[key] = type(section).model_validate(changed)
        if plan.delta_of is not None:
            merged["lora"] = self._with_delta(plan, merged["lora"], merged["training"])
        if plan.matched:
            merged["lora"] = self._matched(plan, merged["lora"])
        return Settings(**merged)

    def frozen_rank(self, plan: AdapterPlan) -> int:
        """How much of an adapter's rank is another's and stays as it is."""
        if plan.delta_of is None:
            return 0
        return self.settings(self.named(plan.delta_of)).lora.rank

    def _with_delta(self, plan: AdapterPlan, own: Lora, training: Training) -> Lora:
        shared = self.settings(self.named(plan.delta_of or "")).lora
        if training.weight_decay:
            raise ValueError(f"adapter {plan.name!r}: delta_of needs weight_decay 0")
        return shared.scaled_to(shared.rank + own.rank)

    def _matched(self, plan: AdapterPlan, own: Lora) -> Lora:
        parts = [self.settings(part).lora for part in self.parts(plan)]
        sites = {(lora.target_modules, lora.first_layer) for lora in (own, *parts)}
        if len(sites) > 1:
            raise ValueError(
                f"adapter {plan.name!r}: matched needs parts with the same target_modules and "
                "first_layer"
            )
        return own.scaled_to(sum(lora.rank for lora in parts))


class Settings(_Section):
    """The sections that hold for one adapter."""

    lora: Lora
    training: Training
    examples: ExampleShares


def read_recipe(path: Path) -> Recipe:
    """Parse and validate a recipe; adapters with `each` are written out.

    Raises:
        RecipeError: unreadable, not TOML, or a key is unknown, missing or out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"cannot be read as TOML: {error}", where=str(path)) from error
    try:
        return Recipe.model_validate(expanded(data, path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = f" (known: {', '.join(Recipe.model_fields)})" if "." not in key else ""
        hint = known if first["type"] == "extra_forbidden" else ""
        raise RecipeError(f"{key or 'recipe'}: {first['msg']}{hint}", where=str(path)) from error


def base_folder(recipe: Recipe, recipe_path: Path) -> Path:
    """Find the base model's folder: a path beside the recipe, else a fetched catalogue model.

    Raises:
        RecipeError: neither exists; says which command fetches it.
    """
    beside = (recipe_path.parent / recipe.base_model).resolve()
    for folder in (beside, model_folder(recipe.base_model)):
        if (folder / "config.json").is_file():
            return folder
    raise RecipeError(
        f"base_model {recipe.base_model!r} is neither a folder with config.json nor a fetched "
        f"model; run: afx-export fetch {recipe.base_model}",
        where=str(recipe_path),
    )


def data_folders(recipe: Recipe, recipe_path: Path) -> tuple[Path, ...]:
    """Resolve the data folders.

    Raises:
        RecipeError: one does not exist; says which command makes it.
    """
    folders = tuple((recipe_path.parent / entry).resolve() for entry in recipe.data)
    for entry, folder in zip(recipe.data, folders, strict=True):
        if not folder.is_dir():
            raise RecipeError(
                f"data folder {entry!r} does not exist; make it with: afx-train data build",
                where=str(recipe_path),
            )
    return folders
