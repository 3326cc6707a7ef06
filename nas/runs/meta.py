"""run.json: what a run was asked for, which never changes, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from nas.errors import UsageError
from nas.runs.values import Count, Flag, Number, Text, read

SCHEMA = 2
JOURNAL = "journal"  # the storage of a run that keeps its trials in its folder

Positive = Annotated[Number, Field(gt=0)]


class RunState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class ConfirmationState(StrEnum):
    """What workers do about confirming; None: the run confirms nothing."""

    LATER = "later"  # search first
    NOW = "now"  # only take what waits in the queue
    DONE = "done"  # end when the queue is empty


@dataclass(frozen=True)
class SpaceSource:
    """The search space of a run: its name, and the TOML that it is read from."""

    name: Text
    toml: Text


@dataclass(frozen=True)
class RunMeta:
    """What was asked for, on what, with which versions."""

    id: Text
    budget_ms: Positive  # the largest of `budgets`
    device: Text
    resolution: Annotated[Count, Field(gt=0)]
    task: Text
    space: SpaceSource
    budgets: tuple[Positive, ...] = ()  # ascending
    created: Text = ""
    storage: Text = JOURNAL  # or where other machines reach the trials too, without its secrets
    precision: Text | None = None  # of what is measured; None: the device's first, from before runs had a choice
    # What a configuration must meet besides the budget, in the numbers of `precision` (nas/search/feasibility.py).
    most_params_m: Positive | None = None
    most_size_mb: Positive | None = None
    most_memory_mb: Positive | None = None
    origin: Text = "measured"
    task_fingerprint: Text = ""
    num_classes: Annotated[Count, Field(gt=0)] = 1000
    seed: Count = 0
    steps: Count = 0  # of a proxy's training; 0: a run from before they were recorded
    plan: dict[Text, Any] | None = None  # nas.search.plan.SearchPlan's values; None: scores are of proxies
    recipe: Count = 1  # of training (nas.proxy.recipe); scores of two recipes do not compare
    sampler: Text = "surrogate"
    versions: dict[Text, Text] = field(default_factory=dict)
    host: dict[Text, Any] = field(default_factory=dict)
    parent: Text | None = None  # pretrained weights of which full-width trainings start from slices
    synthetic: Flag = False  # made up, for demonstration
    schema: Count = SCHEMA

    def __post_init__(self) -> None:
        if not self.budgets:
            object.__setattr__(self, "budgets", (self.budget_ms,))

    @property
    def shared(self) -> bool:
        """Whether other machines reach the trials too."""
        return self.storage != JOURNAL

    @property
    def processor(self) -> str | None:
        """The processor whose latencies the run has."""
        found = self.host.get("processor")
        return found if isinstance(found, str) else None


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; its launcher writes it."""

    state: RunState = RunState.INTERRUPTED
    launcher_pid: Count | None = None
    launcher_host: Text | None = None
    launcher_started: Number | None = None
    resumed: Text | None = None
    workers: Count | None = None
    seconds_left: Number | None = None  # as the launcher's stopwatch has it; None: no limit
    search_seconds_left: Number | None = None  # of these, what is for searching
    trial_limit: Count | None = None
    confirming: ConfirmationState | None = None
    updated: Number | None = None  # seconds since 1970
    elapsed_s: Number = 0.0
    trials_told: Count | None = None  # how many the journal held when the launcher last counted
    feasible: Text | None = None  # how much of the space meets the budget, in words


_FORMER = {"reach": "feasible"}  # names of fields in run.json before


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Before runs had several budgets and shared storages."""
    budget = values.get("budget_ms")
    return {"budgets": [] if budget is None else [budget], "storage": JOURNAL, "sampler": "surrogate"} | values


_MIGRATIONS = {1: _from_1}  # from each schema to the next


def read_run(values: Any, where: Path) -> tuple[RunMeta, RunProgress]:
    """run.json in the present schema. Fields of a later version are passed over.

    Raises:
        UsageError: it is no run's, a later version's, or damaged.
    """
    if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
        raise UsageError(f"{where} has no schema number; it was not written by this program")
    if values["schema"] > SCHEMA:
        raise UsageError(f"{where} has schema {values['schema']}, this version reads up to {SCHEMA}; "
                         "open it with a newer version")
    for schema in range(values["schema"], SCHEMA):
        if schema not in _MIGRATIONS:
            raise UsageError(f"{where} has schema {schema}, this version reads {min(_MIGRATIONS)} to {SCHEMA}")
        values = _MIGRATIONS[schema](values) | {"schema": schema + 1}
    needed = ("id", "budget_ms", "device", "resolution", "task", "space")
    if missing := [key for key in needed if key not in values]:
        raise UsageError(f"{where} is damaged: it says nothing of {', '.join(missing)}")
    values = {_FORMER.get(key, key): value for key, value in values.items()}
    if values.get("state") not in list(RunState):
        values = values | {"state": RunState.INTERRUPTED}
    try:
        return read(RunMeta, values), read(RunProgress, values)
    except ValueError as error:
        raise UsageError(f"{where} is damaged: {error}") from None


def run_json(meta: RunMeta, progress: RunProgress) -> dict[str, Any]:
    """What run.json holds: one flat object."""
    former = {new: old for old, new in _FORMER.items()}
    return asdict(meta) | {former.get(key, key): value for key, value in asdict(progress).items()}


def changed(progress: RunProgress, changes: Mapping[str, Any]) -> RunProgress:
    unknown = set(changes) - {f.name for f in fields(RunProgress)}
    assert not unknown, f"no part of a run's progress: {unknown}"
    return replace(progress, **changes)
