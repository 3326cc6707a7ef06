"""SearchSpace: which configurations exist, and how Optuna walks through them. Needs no torch."""

from __future__ import annotations

import itertools
import math
import reprlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastvit.config import MIXERS, MOST_WIDTH, STAGE_COUNTS, STAGES, UNUSED_KERNEL, FastViTConfig
from fastvit.hint import did_you_mean

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import BaseTrial, FrozenTrial, TrialState

Choices = tuple[Any, ...]

# Field of the configuration -> name of its parameters. The order is the order of suggestion.
_FIELDS = {"mixers": "mixer", "depths": "depth", "widths": "width", "mlp_ratios": "ratio",
           "mixer_kernels": "mixer_kernel", "ffn_kernels": "ffn_kernel", "patch_kernels": "patch_kernel",
           "patch_se": "patch_se"}
_BETWEEN = ("patch_kernels", "patch_se")  # one entry for each patch embedding, not for each stage
_FIXED = ("head_dim", "stem_stride", "cpe_kernel", "branches", "layer_scale_init", "drop_path", "patch_act",
          "attention_norm", "stem_scale")
_SHIPPED = Path(__file__).parent
_MOST_CHOICES = 256  # of one dimension: every value is tried once when a space is read
_KEPT = 10_000  # encodings that are not worked out twice


@dataclass(frozen=True)
class Dimension:
    """One parameter of the space: the name that Optuna knows, the entry of the configuration that it
    sets, and its choices in order."""

    name: str
    field: str
    index: int
    choices: Choices


Choose = Callable[[Dimension], Any]


@dataclass(frozen=True)
class SearchSpace:
    """A product of choices per stage, less what cannot be built.

    A configuration is suggested one way only: a parameter exists only where it shapes the network (an
    attention stage has no mixer kernel), and a choice that attention cannot take is not offered to it.
    """

    name: str
    choices: Mapping[str, tuple[Choices, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def load(cls, name: str | Path = "default") -> SearchSpace:
        """A space that ships, by name, or a TOML file (space/default.toml shows the format).

        Raises:
            ValueError: no such space, or what is wrong in the file.
        """
        path = _SHIPPED / f"{name}.toml"
        if str(name) not in cls.shipped():
            path = Path(name)
            if not path.is_file():
                raise ValueError(f"{str(name)!r} is neither a shipped space ({', '.join(cls.shipped())}) "
                                 f"nor a TOML file{did_you_mean(str(name), cls.shipped())}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: cannot be read as text: {error}") from None
        try:
            return cls.from_toml(text, name=path.stem)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @staticmethod
    def shipped() -> list[str]:
        return sorted(path.stem for path in _SHIPPED.glob("*.toml"))

    @classmethod
    def from_toml(cls, text: str, name: str = "custom") -> SearchSpace:
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"not valid TOML: {error}") from None
        name, fixed = values.pop("name", name), values.pop("fixed", {})
        if not isinstance(name, str):
            raise ValueError(f"name = {reprlib.repr(name)}: expected a string")
        if unknown := sorted(set(values) - set(_FIELDS)):
            raise ValueError(f"{reprlib.repr(unknown[0])} is no dimension; the dimensions are {', '.join(_FIELDS)}, "
                             "and [fixed]")
        if missing := [key for key in ("mixers", "depths", "widths", "mlp_ratios") if key not in values]:
            raise ValueError(f"{missing[0]} is missing")
        if not isinstance(fixed, dict) or (unknown := sorted(set(fixed) - set(_FIXED))):
            raise ValueError(f"[fixed] may hold {', '.join(_FIXED)}; got {reprlib.repr(fixed)}")
        head_dim = fixed.get("head_dim", 1)
        if not isinstance(head_dim, int) or isinstance(head_dim, bool) or not 1 <= head_dim <= MOST_WIDTH:
            raise ValueError(f"[fixed] head_dim = {reprlib.repr(head_dim)}: expected an integer from 1 to {MOST_WIDTH}")
        defaults = {"mixer_kernels": [3], "ffn_kernels": [7], "patch_kernels": [7], "patch_se": [False]}
        # Five stages where a line says so with five entries.
        stages = next((len(value) for key, value in values.items() if key not in _BETWEEN and isinstance(value, list)
                       and value and isinstance(value[0], (list, dict))), STAGES)
        if stages not in STAGE_COUNTS:
            raise ValueError(f"expected entries for {' or '.join(map(str, STAGE_COUNTS))} stages, got {stages}")
        choices = {key: _parse(key, values.get(key, defaults.get(key)), stages - (key in _BETWEEN))
                   for key in _FIELDS}
        space = cls(name=name, choices=choices, fixed=fixed, source=text)
        space._check()
        return space

    def _check(self) -> None:
        """Every value is tried in a configuration once, so that its ValueError appears now and not in a search."""
        for stage in range(self.stages):
            for mixer in self.choices["mixers"][stage]:
                if mixer not in MIXERS:
                    raise ValueError(f"mixers: {reprlib.repr(mixer)} must be one of {', '.join(MIXERS)}")
                if not self._widths(stage, mixer):
                    raise ValueError(f"widths: stage {stage + 1} offers attention, but no multiple of "
                                     f"head_dim = {self._head_dim}")
            for width, (low, high) in itertools.product(
                    self.choices["widths"][stage], itertools.pairwise(self.choices["mlp_ratios"][stage])):
                if isinstance(width, int) and int(width * low) == int(width * high):
                    raise ValueError(f"mlp_ratios: {low:g} and {high:g} are the same network at width {width}")
        longest = max(len(entry) for entries in self.choices.values() for entry in entries)
        for mixers, index in itertools.product(itertools.product(*self.choices["mixers"]), range(longest)):
            def choose(dimension: Dimension, mixers: Choices = mixers, index: int = index) -> Any:
                if dimension.field == "mixers":
                    return mixers[dimension.index]
                return dimension.choices[min(index, len(dimension.choices) - 1)]

            self._walk(choose)

    @property
    def stages(self) -> int:
        return len(self.choices["depths"])

    @property
    def _head_dim(self) -> int:
        return int(self.fixed.get("head_dim", 32))

    def _widths(self, stage: int, mixer: str) -> Choices:
        widths = self.choices["widths"][stage]
        return tuple(w for w in widths if w % self._head_dim == 0) if mixer == "attention" else widths

    def _mixer_dimension(self, stage: int) -> Dimension:
        return Dimension(f"mixer{stage + 1}", "mixers", stage, self.choices["mixers"][stage])

    def _dimensions(self, mixers: Sequence[str]) -> Iterator[Dimension]:
        """The parameters that exist once the mixers are chosen, those with one choice included."""
        for key, parameter in _FIELDS.items():
            for index, choices in enumerate(self.choices[key]):
                name = f"{parameter}{index + 1}"
                if key == "mixers" or (key == "mixer_kernels" and mixers[index] == "attention"):
                    continue
                if key == "widths":
                    allowed = self._widths(index, mixers[index])
                    # Optuna wants one range for one name.
                    if allowed != choices and len(self.choices["mixers"][index]) > 1:
                        name += "_attention"
                    choices = allowed
                yield Dimension(name, key, index, choices)

    def _walk(self, choose: Choose) -> FastViTConfig:
        mixers = [choose(self._mixer_dimension(stage)) for stage in range(self.stages)]
        values: dict[str, list[Any]] = {key: [UNUSED_KERNEL] * len(entries) for key, entries in self.choices.items()}
        values["mixers"] = mixers
        known = self._by_mixers.get(tuple(mixers))
        if known is None:
            known = self._by_mixers[tuple(mixers)] = tuple(self._dimensions(mixers))
        for dimension in known:
            values[dimension.field][dimension.index] = choose(dimension)
        entries: dict[str, Any] = {key: tuple(chosen) for key, chosen in values.items()}
        return FastViTConfig(**entries, **self.fixed)

    @cached_property
    def _encoded(self) -> dict[FastViTConfig, dict[str, Any]]:
        return {}

    @cached_property
    def _by_mixers(self) -> dict[tuple[str, ...], tuple[Dimension, ...]]:
        return {}

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Every parameter with more than one choice that `suggest` may ask for."""
        found = [self._mixer_dimension(stage) for stage in range(self.stages)]
        for mixers in itertools.product(*self.choices["mixers"]):
            found += self._dimensions(mixers)
        unique = {dimension.name: dimension for dimension in found}
        return tuple(dimension for dimension in unique.values() if len(dimension.choices) > 1)

    def suggest(self, trial: BaseTrial) -> FastViTConfig:
        """The configuration that an Optuna trial (or FixedTrial) chooses."""
        return self._walk(lambda dimension: _suggest(trial, dimension.name, dimension.choices))

    def sample(self, rng: np.random.Generator) -> FastViTConfig:
        """A configuration with every choice drawn uniformly."""
        return self._walk(lambda dimension: dimension.choices[rng.integers(len(dimension.choices))])

    def smallest_and_largest(self) -> tuple[FastViTConfig, FastViTConfig]:
        """The configuration with every choice lowest, and the one with every choice highest."""
        low, high = (self._walk(lambda d, end=end: d.choices[end]) for end in (0, -1))  # type: ignore[misc]
        return low, high

    def encode(self, config: FastViTConfig) -> dict[str, Any]:
        """The parameters that make `suggest` return `config`.

        Raises:
            ValueError: the configuration is not in the space, with the choice that is outside.
        """
        known = self._encoded.get(config)
        if known is None:
            if len(self._encoded) > _KEPT:
                self._encoded.clear()
            known = self._encoded[config] = self._encode(config)
        return dict(known)

    def _encode(self, config: FastViTConfig) -> dict[str, Any]:
        params: dict[str, Any] = {}
        if config.stages != self.stages:
            raise ValueError(f"the configuration has {config.stages} stages, those of the space {self.name!r} have "
                             f"{self.stages}")

        def record(dimension: Dimension) -> Any:
            entries = getattr(config, dimension.field)
            value = entries[dimension.index]
            if value not in dimension.choices:
                raise ValueError(f"{dimension.field} = {entries}: {value!r} is not among the choices of "
                                 f"{dimension.name} in the space {self.name!r}: {_short(dimension.choices)}")
            choice = dimension.choices[dimension.choices.index(value)]
            if len(dimension.choices) > 1:
                params[dimension.name] = choice
            return choice

        rebuilt = self._walk(record)
        if rebuilt != config:
            differing = [k for k in (*_FIXED, "cpe") if getattr(rebuilt, k) != getattr(config, k)]
            raise ValueError(f"{', '.join(differing)} of the configuration differ from what the space "
                             f"{self.name!r} fixes")
        return params

    def enqueue(self, study: Study, config: FastViTConfig, user_attrs: dict[str, Any] | None = None) -> None:
        """Put a configuration in a study's queue, its parameters with it.

        Optuna's enqueue_trial leaves them to be suggested one by one, each a write of its own.

        Raises:
            ValueError: the configuration is not in the space.
        """
        from optuna.trial import TrialState

        study.add_trial(self.trial(config, TrialState.WAITING, user_attrs))

    def trial(self, config: FastViTConfig, state: TrialState, user_attrs: dict[str, Any] | None = None) -> FrozenTrial:
        """A trial of this configuration, its parameters with it, to be added to a study.

        Raises:
            ValueError: the configuration is not in the space.
        """
        from optuna.trial import FixedTrial, create_trial

        chosen = FixedTrial(self.encode(config))
        self.suggest(chosen)
        return create_trial(state=state, params=chosen.params, distributions=chosen.distributions,
                            user_attrs=user_attrs)

    def __contains__(self, config: object) -> bool:
        if not isinstance(config, FastViTConfig):
            return False
        try:
            self.encode(config)
        except ValueError:
            return False
        return True

    def size(self) -> int:
        """The number of configurations."""
        stages = 1
        for stage in range(self.stages):
            shared = math.prod(len(self.choices[key][stage]) for key in ("depths", "mlp_ratios", "ffn_kernels"))
            stages *= shared * sum(
                len(self._widths(stage, mixer))
                * (1 if mixer == "attention" else len(self.choices["mixer_kernels"][stage]))
                for mixer in self.choices["mixers"][stage])
        return stages * math.prod(len(choices) for key in _BETWEEN for choices in self.choices[key])

    def neighbours(self, config: FastViTConfig) -> list[FastViTConfig]:
        """Every configuration one step away in one dimension: the next choice up or down, or another mixer.

        A stage that turns from attention to a mixer with a kernel may take any of its kernels, because
        attention has none; so the relation is symmetric.
        """
        params = self.encode(config)
        found = []
        for dimension in self._dimensions(config.mixers):
            if dimension.name not in params:
                continue
            at = dimension.choices.index(params[dimension.name])
            for step in (at - 1, at + 1):
                if 0 <= step < len(dimension.choices):
                    found.append(self.decode(params | {dimension.name: dimension.choices[step]}))
        for stage, mixers in enumerate(self.choices["mixers"]):
            for mixer in mixers:
                if mixer == config.mixers[stage]:
                    continue
                if config.widths[stage] not in self._widths(stage, mixer):
                    continue
                changed = (*config.mixers[:stage], mixer, *config.mixers[stage + 1:])
                kernels = [config.mixer_kernels[stage]]
                if config.mixers[stage] == "attention":
                    kernels = list(self.choices["mixer_kernels"][stage])
                for kernel in kernels:
                    new = (*config.mixer_kernels[:stage], kernel, *config.mixer_kernels[stage + 1:])
                    found.append(config.replace(mixers=changed, mixer_kernels=new))
        return found

    def decode(self, params: Mapping[str, Any]) -> FastViTConfig:
        """The configuration of `params`; parameters that it does not need are ignored, missing ones are lowest."""
        return self._walk(lambda dimension: params.get(dimension.name, dimension.choices[0]))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """What `features` holds, in order: one name for each dimension that varies."""
        names = []
        for key, parameter in _FIELDS.items():
            names += [f"{parameter}{i + 1}" for i, choices in enumerate(self.choices[key]) if len(choices) > 1]
        return tuple(names)

    def features(self, config: FastViTConfig) -> np.ndarray:
        """`config` as a vector for surrogates (len(feature_names),): depths and widths as logarithms,
        mixers as their position among the choices, the rest as it is."""
        row = []
        for key in _FIELDS:
            for index, choices in enumerate(self.choices[key]):
                if len(choices) < 2:
                    continue
                value = getattr(config, key)[index]
                if key == "mixers":
                    row.append(float(choices.index(value)))
                elif key in ("depths", "widths"):
                    row.append(math.log(value))
                else:
                    row.append(float(value))
        return np.array(row)


def _suggest(trial: BaseTrial, name: str, choices: Choices) -> Any:
    if len(choices) == 1:
        return choices[0]
    if all(isinstance(choice, int) and not isinstance(choice, bool) for choice in choices):
        steps = {high - low for low, high in itertools.pairwise(choices)}
        if len(steps) == 1:  # an ordered range, which samplers can learn along
            return trial.suggest_int(name, choices[0], choices[-1], step=steps.pop())
    return trial.suggest_categorical(name, choices)


def _parse(key: str, value: Any, count: int) -> tuple[Choices, ...]:
    if isinstance(value, dict) or (isinstance(value, list) and value and not isinstance(value[0], (list, dict))):
        value = [value] * count
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{key} = {reprlib.repr(value)}: expected {count} entries (choices or {{ low, high, step }}), "
                         "or one for all")
    return tuple(_parse_entry(key, entry) for entry in value)


def _parse_entry(key: str, entry: Any) -> Choices:
    if isinstance(entry, dict):
        if not {"low", "high"} <= set(entry) <= {"low", "high", "step"}:
            raise ValueError(f"{key}: {reprlib.repr(entry)} must have low, high and, if not 1, step")
        low, high, step = entry["low"], entry["high"], entry.get("step", 1)
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in (low, high, step)):
            raise ValueError(f"{key}: {reprlib.repr(entry)} must hold integers; write other choices as a list")
        if step < 1 or high < low or (high - low) % step:
            raise ValueError(f"{key}: {reprlib.repr(entry)} must have low <= high, a whole number of steps apart")
        if (high - low) // step >= _MOST_CHOICES:
            raise ValueError(f"{key}: {reprlib.repr(entry)} has more than {_MOST_CHOICES} choices; take a larger step")
        return tuple(range(low, high + 1, step))
    if not isinstance(entry, list) or not entry:
        raise ValueError(f"{key}: {reprlib.repr(entry)} must be a list of choices or {{ low, high, step }}")
    if len(entry) > _MOST_CHOICES:
        raise ValueError(f"{key}: a list of {len(entry)} choices; expected at most {_MOST_CHOICES}")
    if not all(isinstance(v, (int, float, str)) for v in entry):
        raise ValueError(f"{key}: {reprlib.repr(entry)} must hold numbers or words")
    if len(set(map(str, entry))) != len(entry) or len(set(entry)) != len(entry):
        raise ValueError(f"{key}: {reprlib.repr(entry)} holds a choice twice")
    if key == "patch_se":
        if not all(isinstance(v, bool) for v in entry):
            raise ValueError(f"{key}: {reprlib.repr(entry)} must hold true, false or both")
        entry = sorted(entry)
    elif key != "mixers":
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in entry):
            raise ValueError(f"{key}: {reprlib.repr(entry)} must hold numbers")
        entry = sorted(entry)
    return tuple(entry)


def _short(choices: Choices) -> str:
    if len(choices) > 6:
        return f"{choices[0]}, {choices[1]} .. {choices[-1]}"
    return ", ".join(str(choice) for choice in choices)
