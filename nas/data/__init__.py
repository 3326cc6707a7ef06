"""What a proxy is trained on: the built-in task, scikit-learn's digits, or a folder of images."""

from __future__ import annotations

from pathlib import Path

from nas.data.task import Batch, Split, Task

DRAWN = ("builtin", "shapes", "digits")  # tasks that need no folder

__all__ = ["DRAWN", "Batch", "Split", "Task", "load_task"]


def load_task(spec: str = "builtin", *, resolution: int | None = None, seed: int = 0) -> Task:
    """The task that `spec` names: "builtin", "shapes", "digits" or an image folder.

    Args:
        spec: a folder holds train/ and val/, or one folder a class, which the seed then splits.
        resolution: pixels; None is the task's own (the drawn ones and digits 64, folders 256).
        seed: draws the images of drawn tasks, and splits what comes unsplit.

    Raises:
        UsageError: the folder is none, or holds no usable classes.
    """
    if spec == "builtin":
        from nas.data.builtin import builtin_task
        return builtin_task(resolution or 64, seed)
    if spec == "shapes":
        from nas.data.shapes import shapes_task
        return shapes_task(resolution or 64, seed)
    if spec == "digits":
        from nas.data.digits import digits_task
        return digits_task(resolution or 64, seed)
    from nas.data.folder import folder_task
    return folder_task(Path(spec).expanduser(), resolution or 256, seed)
