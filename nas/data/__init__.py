"""What a proxy is trained on: the built-in task, scikit-learn's digits, or a folder of images."""

from __future__ import annotations

from pathlib import Path

from nas.data.task import Task

__all__ = ["Task", "load_task"]


def load_task(spec: str = "builtin", *, resolution: int | None = None, seed: int = 0) -> Task:
    """The task that `spec` names; resolution None: the task's own (built-in 64, digits 64, folders 256).

    Raises:
        UsageError: the folder is none, or holds no usable classes.
    """
    if spec == "builtin":
        from nas.data.builtin import builtin_task
        return builtin_task(resolution or 64, seed)
    if spec == "digits":
        from nas.data.folder import digits_task
        return digits_task(resolution or 64, seed)
    from nas.data.folder import folder_task
    return folder_task(Path(spec), resolution or 256, seed)
