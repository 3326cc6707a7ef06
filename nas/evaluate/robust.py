"""The published robustness sets: class subsets of ImageNet-A and -R, mean corruption error of ImageNet-C, and a
standard library's corruptions of any images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import NotAvailable, UsageError
from nas.export.formats import lacks

if TYPE_CHECKING:
    from PIL.Image import Image

# AlexNet's top-1 errors on ImageNet-C, averaged over the five severities (Hendrycks & Dietterich, ICLR 2019).
ALEXNET_ERROR = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056, "pixelate": 0.717840,
    "jpeg_compression": 0.606500}
CORRUPTIONS = tuple(ALEXNET_ERROR)
SEVERITIES = (1, 2, 3, 4, 5)


def mean_corruption_error(errors: Mapping[str, Sequence[float]], *, normalised: bool) -> float:
    """mCE in percent: each corruption's mean error over its severities, over AlexNet's when `normalised`.

    AlexNet's errors are those on ImageNet-C with its 1,000 classes and mean nothing for other images, where the
    plain mean error is given.
    """
    each = {name: float(np.mean(values)) for name, values in errors.items()}
    return 100 * float(np.mean([error / ALEXNET_ERROR[name] if normalised else error for name, error in each.items()]))


def corrupted_folders(folder: Path) -> dict[str, dict[int, Path]]:
    """Corruption -> severity -> image folder of an ImageNet-C tree; empty when `folder` is none.

    The published archives may lie side by side under their own names: noise/gaussian_noise/1 or gaussian_noise/1.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in sorted([*folder.glob("*/1"), *folder.glob("*/*/1")]):
        name = path.parent.name
        levels = {level: path.parent / str(level) for level in SEVERITIES if (path.parent / str(level)).is_dir()}
        if name in ALEXNET_ERROR and len(levels) == len(SEVERITIES):
            found[name] = levels
    return found


class Corrupt:
    """One corruption at one severity, by the `imagecorruptions` library; its draws depend on the image's number."""

    def __init__(self, name: str, severity: int, side: int, seed: int = 0) -> None:
        self.name, self.severity, self.side, self.seed = name, severity, side, seed

    def __call__(self, image: Image, index: int) -> Image:
        """The image, cropped to the network's size first, as ImageNet-C was made."""
        from imagecorruptions import corrupt
        from PIL import Image as module
        from PIL import ImageOps

        # Most corruptions draw from numpy's global generator; two take a seed and would draw one themselves.
        state = np.random.get_state()
        number = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        own = {"seed": number} if self.name in ("glass_blur", "impulse_noise") else {}
        np.random.seed(number)
        try:
            pixels = np.asarray(ImageOps.fit(image, (self.side, self.side), module.Resampling.BICUBIC))
            return module.fromarray(corrupt(pixels, corruption_name=self.name, severity=self.severity, **own))
        finally:
            np.random.set_state(state)


def check_corruptions(names: Sequence[str]) -> None:
    """Raise unless these corruptions can be made here.

    Raises:
        UsageError: no such corruption.
        NotAvailable: the library is not installed.
    """
    for name in names:
        if name not in CORRUPTIONS:
            raise UsageError(f"--corrupt {name}: expected all, or some of {', '.join(CORRUPTIONS)}")
    if why := lacks("imagecorruptions", "pip install imagecorruptions-imaug (the maintained fork of imagecorruptions)"):
        raise NotAvailable(f"--corrupt {why}")


def columns_for(class_names: Sequence[str], num_classes: int, folders: Sequence[str]) -> tuple[np.ndarray, str]:
    """Which of a network's outputs the class folders of a data set are, and a note on how that was found.

    By name where the network has class names; by WordNet number (n01440764) where it has ImageNet's 1,000
    outputs; in order where there are as many folders as outputs. Fewer folders than outputs make a subset:
    only its logits are compared, which is the published way for ImageNet-A and -R.

    Raises:
        UsageError: none of these fits.
    """
    known = list(class_names)
    how = "by name"
    if num_classes == 1000 and not set(folders) <= set(known) and all(name[:1] == "n" and name[1:].isdecimal()
                                                                      for name in folders):
        from timm.data import ImageNetInfo

        known, how = list(ImageNetInfo().label_names()), "by WordNet number"
    places = {name: index for index, name in enumerate(known)}
    if all(name in places for name in folders):
        note = "" if len(folders) == num_classes else f"{len(folders)} of {num_classes} classes, matched {how}"
        return np.array([places[name] for name in folders]), note
    if len(folders) == num_classes:
        return np.arange(num_classes), "classes in the order of the folders, whose names the network does not know"
    unknown = next(name for name in folders if name not in places)
    raise UsageError(f"--data: the class {unknown!r} is none of the network's {num_classes} classes")


def results(errors: dict[str, list[float]], *, normalised: bool) -> dict[str, Any]:
    """The metric's name, its value, and the errors behind it in percent."""
    name = "mce" if normalised else "mean_corruption_error_unnormalised"
    return {name: mean_corruption_error(errors, normalised=normalised),
            "errors": {key: [100 * value for value in values] for key, values in errors.items()}}
