"""Settings: typed, from the packaged defaults and at most one file of the deployment."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import ConfigurationError

Share = Annotated[float, Field(ge=0, le=1)]
Basis = Literal["consent", "legitimate_interest"]
Repeats = Literal["allowed", "never", "only"]
# The parser's buffer must hold a line twice.
MAX_LINE_BYTES = 8_000_000


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("is no IANA time zone") from None
    return name


class Section(BaseModel):
    """Unknown keys are refused: a misspelt setting must not be a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(Section):
    timezone: Annotated[str, AfterValidator(_known_zone)]
    seed: int
    threads: int = Field(ge=1)
    memory: str
    max_block_cells: int = Field(ge=100_000)


class LandingSettings(Section):
    max_file_bytes: int = Field(ge=1)
    max_expansion: float = Field(ge=1)
    max_line_bytes: int = Field(ge=1, le=MAX_LINE_BYTES)
    erase: Literal["rewrite", "suppress"]


class Erase(Section):
    rebuild: Literal["at_once", "nightly"]


class LakeSettings(Section):
    buckets: int = Field(ge=1, le=999)
    keep_publications: int = Field(ge=1)
    keep_models: int = Field(ge=1)
    grace_seconds: float = Field(ge=0)


class Gates(Section):
    max_quarantined_share: Share
    min_people_share: Share
    min_catalogue_coverage: Share
    min_overlap: Share


class Checks(Section):
    volume_factor: float = Field(gt=1)
    stale_days: float = Field(ge=0)
    drift: float = Field(gt=0)
    known_items: Share


class Privacy(Section):
    min_people: int = Field(ge=1)
    minimum_profiled_age: int = Field(ge=0)
    export_days: int = Field(ge=1)
    replay_days: int = Field(ge=0)
    retention_days: dict[str, Annotated[int, Field(ge=1)]]
    basis: dict[str, Basis]


class Success(Section):
    click: tuple[str, ...]
    purchase: tuple[str, ...]
    helpful: tuple[str, ...]
    helpful_rating: float


class Signals(Section):
    weights: dict[str, float]
    rating_neutral: float = Field(gt=0)
    daily_cap: float = Field(gt=0, le=1_000_000)
    half_life_days: float = Field(gt=0)
    rapid_scroll: float = Field(gt=0)
    quick_leave_seconds: float = Field(ge=0)
    success: Success


class Features(Section):
    recent_items: int = Field(ge=2)
    similar_items: int = Field(ge=1)
    trending_items: int = Field(ge=1)
    interests: int = Field(ge=1)


class Evaluation(Section):
    train_share: Share
    validation_share: Share
    max_horizon_days: int = Field(ge=1)
    longest_horizon_days: int = Field(ge=1)
    min_people: int = Field(ge=1)
    max_people: int = Field(ge=1)
    bootstrap: int = Field(ge=1)


class Outcomes(Section):
    window_days: int = Field(ge=1)
    lookback_days: int = Field(ge=1)
    positions: int = Field(ge=1)
    recent_days: int = Field(ge=1)
    max_decay: Share


class Trending(Section):
    windows_days: tuple[Literal[7, 14, 28, 90], ...] = Field(min_length=1)


class Repeat(Section):
    half_life_days: float = Field(gt=0)
    demand_exponent: float = Field(ge=0, le=1)


class ItemItem(Section):
    half_life_days: float = Field(gt=0)
    max_items: int = Field(ge=2)
    person_exponent: Share
    own_exponent: Share
    other_exponent: Share
    neighbours: int = Field(ge=1)


class GraphFilter(Section):
    half_life_days: float = Field(gt=0)
    max_items: int = Field(ge=2)
    person_exponent: Share
    own_exponent: Share
    lift_exponent: Share
    rank: int = Field(ge=1, le=4096)
    sharpness: Share


class Ease(Section):
    half_life_days: float = Field(gt=0)
    regularization: float = Field(gt=0)
    max_items: int = Field(ge=2, le=20_000)


class Als(Section):
    half_life_days: float = Field(gt=0)
    factors: int = Field(ge=1)
    iterations: int = Field(ge=1)
    regularization: float = Field(gt=0)
    confidence: float = Field(gt=0)


class Content(Section):
    half_life_days: float = Field(gt=0)
    dimensions: int = Field(ge=2)
    max_terms: int = Field(ge=2)


class Profile(Section):
    traits: tuple[Literal["country", "age_band", "gender", "language", "income_band"], ...]
    recent_days: float = Field(gt=0)
    prior_people: float = Field(gt=0)


class TrendingNear(Section):
    prior: float = Field(gt=0)


class Recommenders(Section):
    trending: Trending
    repeat: Repeat
    item_item: ItemItem
    graph_filter: GraphFilter
    ease: Ease
    als: Als
    content: Content
    profile: Profile
    trending_near: TrendingNear


class Retraining(Section):
    trials: int = Field(ge=0)
    people: int = Field(ge=1)
    refresh_days: float = Field(ge=0)
    max_coverage_loss: Share
    max_popularity_gain: Share


class Nets(Section):
    count: int = Field(ge=0)
    units: tuple[Annotated[int, Field(ge=1)], ...]
    passes: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    l2: float = Field(ge=0)
    share: Share


class Ranker(Section):
    windows: int = Field(ge=2)
    halfway: bool
    people: int = Field(ge=1)
    negatives: float = Field(gt=0, le=1)
    iterations: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    leaves: int = Field(ge=2)
    min_leaf: int = Field(ge=1)
    min_successes: int = Field(ge=1)
    blend_share: Share
    objective: dict[Literal["click", "purchase", "helpful"], Share]
    nets: Nets


class Placement(Section):
    k: int = Field(ge=1, le=1000)
    repeats: Repeats


class Config(Section):
    run: RunSettings
    landing: LandingSettings
    erase: Erase
    lake: LakeSettings
    gates: Gates
    checks: Checks
    privacy: Privacy
    signals: Signals
    features: Features
    evaluation: Evaluation
    outcomes: Outcomes
    recommenders: Recommenders
    retraining: Retraining
    ranker: Ranker
    placements: dict[str, Placement]


@dataclass(frozen=True)
class Run:
    """Everything a run depends on; nothing else may be asked."""

    as_of: datetime
    """The cut: only what had landed by this instant and had occurred before it exists."""
    label: str
    """`as_of` as people write it: a date, or an instant."""
    landing: str
    lake: Path
    config: Config

    @property
    def seed(self) -> int:
        return self.config.run.seed


def load_config(path: Path | None = None) -> Config:
    """The settings in force: `path`, `$TAILORBIRD_CONFIG`, `./tailorbird.toml`, or else the packaged defaults alone.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or holds an unknown key or a wrong value.
    """
    named = path or (Path(p) if (p := os.environ.get("TAILORBIRD_CONFIG")) else None)
    file = named or (here if (here := Path("tailorbird.toml")).is_file() else None)
    defaults = tomllib.loads((resources.files("tasks") / "tailorbird.toml").read_text(encoding="utf-8"))
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except OSError:
        raise ConfigurationError(f"{file}: cannot be read; check --config or $TAILORBIRD_CONFIG") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"{file}: is not TOML: {problem}") from None
    try:
        return Config.model_validate(_overlay(defaults, given))
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{file or 'defaults'}: {place}: {first['msg']}") from None


def open_run(*, landing: str, lake: Path, as_of: str | date | datetime | None = None, config: Path | None = None,
             today: date | None = None) -> Run:  # fmt: skip
    """The run for `as_of`; without one, for the day before `today` in the configured zone.

    Raises:
        ConfigurationError: `as_of` is no date and no instant, or the configuration is not usable.
    """
    settings = load_config(config)
    zone = ZoneInfo(settings.run.timezone)
    moment = as_of if as_of is not None else (today or datetime.now(zone).date()) - timedelta(days=1)
    if isinstance(moment, str):
        try:
            moment = date.fromisoformat(moment) if len(moment) == len("2011-11-10") else datetime.fromisoformat(moment)
        except ValueError:
            raise ConfigurationError("--as-of: write a date such as 2011-11-10 or an ISO 8601 instant") from None
    if isinstance(moment, datetime):
        cut = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        label = cut.astimezone(zone).strftime("%Y-%m-%dT%H%M%S")
    else:
        cut = datetime.combine(moment + timedelta(days=1), time(), zone)
        label = moment.isoformat()
    return Run(as_of=cut, label=label, landing=str(landing), lake=Path(lake).absolute(), config=settings)


def _overlay(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given` over `defaults`, table by table."""
    merged = dict(defaults)
    for key, value in given.items():
        both = isinstance(value, dict) and isinstance(defaults.get(key), dict)
        merged[key] = _overlay(defaults[key], value) if both else value
    return merged
