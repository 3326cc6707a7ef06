"""The trained network that the proxies of a task start from: each begins with its slice of the parent's weights.

From there 120 steps rank long runs better than 240 from random weights do, and two runs of one configuration differ
less (docs/LOG.md). Which parent it was is chance as well, and more of it than the seed of the further steps: runs of
different seeds therefore start from parents of their own. A parent is trained once for a task: those of the built-in
task ship with the package, others are kept in the user's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvit.config import FastViTConfig
from fastvit.presets import PRESETS
from nas.files import cache_folder
from nas.proxy.keep import read_weights, write_weights
from nas.proxy.recipe import RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from nas.data import Task
    from nas.proxy.net import ProxyNet

PRESET, STEPS = "sa24", 240
SECONDS = 80.0  # of CPU that training one takes (docs/LOG.md)
SEEDS = (99, 98, 97)  # of the parents' own training: proxies see other images than their parents
SHIPPED = Path(__file__).parent / "parents"


@dataclass(frozen=True)
class Parent:
    """A trained proxy, its batch statistics those of training. `config` is the narrowed one, `state` a ProxyNet's."""

    config: FastViTConfig
    state: dict[str, Tensor]

    def hand_down(self, net: ProxyNet) -> float:
        """Write the slices that `net` has room for into it; the share of its backbone's parameters that they are."""
        from fastvit.inherit import fill
        from nas.proxy.net import DENSE_STAGES

        backbone = {name.removeprefix("backbone."): value for name, value in self.state.items()
                    if name.startswith("backbone.")}
        share, channels = fill(net.backbone, backbone, self.config)
        for index, (head, stage) in enumerate(zip(net.dense, DENSE_STAGES, strict=False)):
            new, old = channels[stage]
            for name, own in head.state_dict().items():
                theirs = self.state[f"dense.{index}.{name}"]
                if name == "1.bias" or not own.dim():
                    own.copy_(theirs)
                elif name == "1.weight":  # (maps, channels, 1, 1): zero for channels that the parent lacks
                    own[:, new] = theirs[:, old]
                else:
                    own[new] = theirs[old]
        return share


def parent_steps(steps: int) -> int:
    """Of the parent's training, for proxies of so many steps: a short search does not wait for a long one."""
    return min(STEPS, 2 * steps)


def number_of(seed: int) -> int:
    """Of the parent that runs of that seed start from: any len(SEEDS) seeds in a row have different ones."""
    return seed % len(SEEDS)


def shipped_path(fingerprint: str, seed: int) -> Path:
    """Where the parent of a drawn task ships."""
    return SHIPPED / f"{fingerprint}-{number_of(seed)}.safetensors"


def parent_path(fingerprint: str, steps: int, seed: int) -> Path:
    """Where the parent of these images is, or will be."""
    if (shipped := shipped_path(fingerprint, seed)).exists():
        return shipped
    return cache_folder("parents") / f"{fingerprint}-{number_of(seed)}-{parent_steps(steps)}-r{RECIPE}.safetensors"


def parent_of(task: Task, steps: int, seed: int) -> Parent:
    """The parent of a task's proxies of that seed; trained now when there is none, while other processes wait for it.

    Raises:
        Failure: its training diverged.
    """
    from filelock import FileLock

    path = parent_path(task.fingerprint, steps, seed)
    if (found := read_parent(path)) is not None:
        return found
    with FileLock(f"{path}.lock"):
        if (found := read_parent(path)) is None:  # another process may have trained it meanwhile
            train_parent(task, parent_steps(steps), path, seed)
            found = read_parent(path)
    assert found is not None
    return found


def read_parent(path: Path) -> Parent | None:
    """The parent in that file; None when there is none that can be read."""
    from safetensors import SafetensorError

    from nas.proxy.net import proxy_config

    try:
        return Parent(proxy_config(PRESETS[PRESET]), read_weights(path))
    except (FileNotFoundError, SafetensorError):
        return None


def train_parent(task: Task, steps: int, path: Path, seed: int) -> None:
    """Train the parent of proxies of that seed from random weights, and write it in half precision to `path`."""
    from nas.proxy.train import Trainer

    own = SEEDS[number_of(seed)]
    trainer = Trainer(PRESETS[PRESET], task, seed=own)
    begun = path.with_suffix(".pt")
    trainer.load(begun)  # where a killed process left it
    while trainer.step < steps:
        trainer.to(min(steps, trainer.step + 60))
        trainer.save(begun)
    write_weights(path, trainer.net.state_dict(), {"preset": PRESET, "steps": str(steps), "seed": str(own)})
    begun.unlink(missing_ok=True)
