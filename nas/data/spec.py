"""What --data may name: a task that comes with the program, a folder, or two folders."""

from __future__ import annotations

from pathlib import Path

DRAWN = ("builtin", "shapes", "digits")  # tasks that need no folder
BETWEEN = "::"  # TRAIN_DIR::VAL_DIR is a data set whose parts lie in two folders


def absolute(data: str) -> str:
    """What --data names, as it is stored: a drawn task's name, or folders by their whole paths."""
    if data in DRAWN:
        return data
    return BETWEEN.join(part and str(Path(part).expanduser().resolve()) for part in data.split(BETWEEN, 1))
