"""What a proxy is trained on: the built-in task, scikit-learn's digits, or a folder of images."""

from __future__ import annotations

from nas.data.spec import BETWEEN, DRAWN, absolute
from nas.data.task import Batch, Split, Task

__all__ = ["BETWEEN", "DRAWN", "Batch", "Split", "Task", "absolute", "load_task"]


def load_task(spec: str = "builtin", *, resolution: int | None = None, seed: int = 0) -> Task:
    """The task that `spec` names: "builtin", "shapes", "digits" or an image folder.

    Args:
        spec: a folder holds train/ and val/, or one folder a class, which the seed then splits; or it is
            TRAIN_DIR::VAL_DIR. The layouts that are read stand in nas/data/layout.py.
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
    return folder_task(spec, resolution or 256, seed)
