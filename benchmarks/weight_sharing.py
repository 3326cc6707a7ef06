"""Weight sharing and inherited weights against training each proxy alone, by what they cost and how they rank.

    python benchmarks/weight_sharing.py [--steps 800] [--parents sa24:98,s12:99] [--long 1200]

Shared: one set of the largest tensors of the space; every step trains two configurations drawn from it, whose weights
are slices of those tensors (first blocks, first channels, centres of kernels), as in Once-for-all networks (Cai et
al., ICLR 2020) without their phases. Inherited: a preset is trained first, and each configuration starts from a slice
of its weights (nas.proxy.parent). Both are scored on the built-in task with BatchNorm statistics taken anew, and
compared with FastViT-Bench's short runs and long runs of the same configurations.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from fastvit import PRESETS, FastViTConfig
from fastvit.cost import cost
from nas.bench.table import EDGES, bench_configs, read_bench
from nas.data import Task, load_task
from nas.proxy.net import ProxyNet, proxy_config
from nas.proxy.parent import SEEDS, STEPS, Parent
from nas.proxy.recipe import ALONE, RECIPE
from nas.proxy.train import BATCH, LEARNING_RATE, Trainer
from space import SearchSpace

DEPTHS, WIDTHS, KERNELS = (6, 6, 18, 6), (80, 160, 320, 640), (7, 7, 7, 7)
MIXERS = (("repmixer",) * 4, ("repmixer", "repmixer", "attention", "attention"))


def part_of(shared: Tensor, shape: torch.Size, name: str) -> Tensor:
    """The slice of a shared tensor that a configuration uses, whose own tensor has this shape."""
    if "attention.qkv" in name:  # queries, keys and values lie one after the other
        width = shape[1]
        return shared.view(3, -1, *shared.shape[1:])[:, :width, :width].reshape(shape)
    if len(shape) == 4 and shape[-1] != shared.shape[-1]:
        margin = (shared.shape[-1] - shape[-1]) // 2
        shared = shared[..., margin:margin + shape[-1], margin:margin + shape[-1]]
    return shared[tuple(slice(0, length) for length in shape)]


class Shared(nn.Module):
    """A configuration's skeleton over slices of the shared tensors; has its own BatchNorm statistics."""

    def __init__(self, held: dict[str, nn.Parameter], config: FastViTConfig, task: Task) -> None:
        super().__init__()
        self.held = held
        self.skeleton = ProxyNet(config, task.num_classes, len(task.map_names))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        weights = {name: part_of(self.held[name], own.shape, name) for name, own in self.skeleton.named_parameters()}
        return functional_call(self.skeleton, weights, (x,))  # type: ignore[no-any-return]


def shared_scores(task: Task, configs: list[FastViTConfig], steps: int) -> list[float]:
    """Scores of `configs` with the weights that random configurations of the benchmark's sizes trained together."""
    torch.manual_seed(0)
    space, rng = SearchSpace.load("default"), np.random.default_rng(1)
    drawn: list[FastViTConfig] = []
    while len(drawn) < 2 * steps:
        if EDGES[0] <= cost(config := space.sample(rng), 64).gmacs < EDGES[-1]:
            drawn.append(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for config in (*configs, *drawn):  # inside a patch embedding a narrower network can be wider
        with torch.device("meta"):
            skeleton = ProxyNet(config, task.num_classes, len(task.map_names))
        for name, own in skeleton.named_parameters():
            shapes[name] = tuple(map(max, own.shape, shapes.get(name, own.shape)))
    held: dict[str, nn.Parameter] = {}
    for mixers in MIXERS:
        largest = FastViTConfig(DEPTHS, WIDTHS, (4, 4, 4, 4), mixers, KERNELS, KERNELS, KERNELS[1:])
        for name, own in ProxyNet(largest, task.num_classes, len(task.map_names)).named_parameters():
            held[name] = nn.Parameter(torch.full(shapes.get(name, own.shape), own.flatten()[0].item()))
            if own.dim() == 4 and not name.startswith("dense"):
                nn.init.kaiming_normal_(held[name], nonlinearity="linear")
    trainer = Trainer(PRESETS["t8"], task)
    optimizer = torch.optim.AdamW(held.values(), lr=LEARNING_RATE / 3, weight_decay=0.02, fused=True)
    for step in tqdm(range(steps), desc="shared", leave=False):
        batch = task.train.batch(np.arange(step * BATCH, (step + 1) * BATCH), trainer.pixels)
        optimizer.zero_grad(set_to_none=True)
        for config in drawn[2 * step:2 * step + 2]:
            (trainer.loss(Shared(held, config, task), batch) / 2).backward()
        nn.utils.clip_grad_norm_(held.values(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE / 3 * min(1.0, (step + 1) / 50)
        optimizer.step()
    found = []
    for config in configs:
        trainer.average = Shared(held, config, task)  # type: ignore[assignment]
        found.append(trainer.evaluate().score)
    return found


def inherited_scores(task: Task, configs: list[FastViTConfig], parent: str, steps: int) -> dict[int, list[float]]:
    """Scores of `configs` that start from slices of a trained preset, after 0 and after `steps` further steps.

    `parent` is the preset and the seed of its training: "sa24:99".
    """
    preset, _, seed = parent.partition(":")
    teacher = Trainer(PRESETS[preset], task, seed=int(seed or SEEDS[0]))
    teacher.to(STEPS)
    trained = Parent(proxy_config(PRESETS[preset]), teacher.net.state_dict())
    found: dict[int, list[float]] = {0: [], steps: []}
    for config in configs:
        trainer = Trainer(config, task, seed=1, parent=trained)
        for at in (0, steps):
            trainer.to(at)
            found[at].append(trainer.evaluate().score)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=0, help="of the shared weights; 0 leaves them out")
    parser.add_argument("--parents", default="sa24:98", help="preset:seed, several with commas")
    parser.add_argument("--further", type=int, default=60, help="steps of each configuration that inherits")
    parser.add_argument("--long", type=int, default=1200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, configs = load_task("builtin"), bench_configs(args.configs)
    found: dict[str, tuple[list[float], float]] = {}
    if args.steps:
        begun = time.process_time()
        shared = shared_scores(task, configs, args.steps)
        found[f"shared weights, {args.steps} steps"] = shared, time.process_time() - begun
    for parent in args.parents.split(","):
        begun = time.process_time()
        for steps, scores in inherited_scores(task, configs, parent, args.further).items():
            found[f"inherited from {parent}, {steps} further steps"] = scores, time.process_time() - begun
    for truth in ("builtin", "shapes"):
        report(task, configs, found, truth, args.long, args.further)


def report(task: Task, configs: list[FastViTConfig], found: dict[str, tuple[list[float], float]], truth: str, long: int,
           further: int) -> None:
    """Print how everything in `found` ranks the long runs from random weights, beside size and training alone."""
    bench = read_bench()
    product, alone = (bench[(bench.recipe == recipe) & (bench.branches == 0)] for recipe in (RECIPE, ALONE))
    # On the same task those of seed 1 go on from the short runs that are shown.
    runs = alone[(alone.task == truth) & (alone.steps == long) & ((alone.seed != 1) | (truth != task.name))]
    scores = runs.groupby("key").score.mean()
    at = [index for index, config in enumerate(configs) if config.key() in scores.index]
    keys = [configs[index].key() for index in at]
    y, sizes = scores[keys].to_numpy(), [cost(configs[index], 64) for index in at]
    columns = {"null: GMACs": ([size.gmacs for size in sizes], 0.0),
               "null: activations": ([size.activations_m for size in sizes], 0.0)}
    for form, rows, seed, rungs in (("alone", alone, 1, (60, 120, 240)),
                                    ("from the shipped parent", product, 0, (30, 60, 120))):
        short = rows[(rows.task == task.name) & (rows.seed == seed)].set_index(["key", "steps"])
        for steps in rungs:
            own = short.loc[[(key, steps) for key in keys]]
            columns[f"{form}, {steps} steps"] = own.score.tolist(), float(own.cpu_seconds.sum())
    shipped = columns[f"from the shipped parent, {further} steps"][0]
    columns |= {name: ([values[index] for index in at], seconds) for name, (values, seconds) in found.items()}
    print(f"\n{len(keys)} configurations against {long} steps on {truth}\n\n| score | CPU-seconds for all of them | "
          "tau | tau beyond activations | tau with the shipped parent's |\n" + "|---" * 5 + "|")
    logs = np.log(columns["null: activations"][0])
    for name, (values, seconds) in columns.items():
        print(f"| {name} | {seconds:.0f} | {kendalltau(values, y).statistic:+.2f} | "
              f"{kendalltau(beyond(values, logs), beyond(y, logs)).statistic:+.2f} | "
              f"{kendalltau(values, shipped).statistic:+.2f} |")


def beyond(values: object, sizes: np.ndarray) -> np.ndarray:
    """What a line through the logarithm of the size leaves."""
    y = np.asarray(values, float)
    return y - np.polyval(np.polyfit(sizes, y, 1), sizes)


if __name__ == "__main__":
    main()
