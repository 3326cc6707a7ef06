"""FastViT-Bench: what many configurations reached in long and short training, made once and shipped.

    python -m nas.bench make --configs 40 --task shapes --steps 240,1200     extends the table, resumable
    python -m nas.bench show

One JSON object a line in fastvit_bench.jsonl; docs/fastvit-bench.md is its data card.
"""

from nas.bench.table import bench_configs, read_bench

__all__ = ["bench_configs", "read_bench"]
