"""A trial's proxy as a variant of its own: the narrow network that the run trained, with what it learned."""

from __future__ import annotations

from pathlib import Path

from nas.errors import UsageError
from nas.export.variant import HALVES, Source, Variant
from nas.search.confirmed import search_trials


def proxy_variant(path: Path, trial: int, name: str, source: Source) -> Variant:
    """The proxy of a run's trial.

    Raises:
        UsageError: no such trial, no weights of it, or the data of the run is gone.
    """
    from fastvit import FastViT
    from nas.data import load_task
    from nas.proxy.keep import kept_weights
    from nas.proxy.net import proxy_config
    from nas.runs.run import Run

    run = Run.open(path)
    record = next((record for record in search_trials(run) if record.trial == trial), None)
    if record is None:
        raise UsageError(f"--trial {trial}: {path} has no such trial")
    state = kept_weights(run, record)
    task = load_task(run.meta.task, resolution=run.meta.resolution, seed=run.meta.seed)
    config = proxy_config(source.config)
    model = FastViT(config, task.num_classes)
    model.load_state_dict(state)
    steps = record.scores[-1].step if record.scores else "a few"
    words = (f"PROXY: not the network of trial {trial} but the quarter-width one that was trained in its place for "
             f"{steps} steps on {source.provenance['task']}; half precision was kept. Of use to look into the search, "
             "not to deploy")
    provenance = source.provenance | {"proxy_of": source.config.key()}
    return Variant(name, config, model.eval(), task.proxy_pixels, task.class_names, words, provenance, None,
                   mean=HALVES, std=HALVES)
