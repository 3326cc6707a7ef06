"""Who runs trials: launcher, worker, evaluator, process pool, liveness, resources."""
