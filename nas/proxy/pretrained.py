"""The pretrained parent of a run: a trained network in the lean form, of which trainings start from slices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UsageError
from nas.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from fastvit.model import FastViT

FILE = "parent.safetensors"  # in a run's folder


@dataclass(frozen=True)
class Pretrained:
    """A trained network in the lean form, and its name for cards."""

    name: str
    model: FastViT

    def settle(self, images: Iterable[Tensor]) -> None:
        """Take its BatchNorm statistics from the run's images (batches (B, 3, H, W)): its slices are trained on those,
        normalised as the run does it."""
        from fastvit.lean import settle

        settle(self.model, images)

    def hand_down(self, net: FastViT) -> str:
        """Write what `net` has room for into it, except the classifier, whose classes are other ones; says how much of
        the network that is."""
        from fastvit.inherit import fill

        known = {name: value for name, value in self.model.state_dict().items() if not name.startswith("head.")}
        share, _ = fill(net, known, self.model.config)
        return f"a slice of {self.name} ({share:.0%} of its parameters)"

    def write(self, path: Path) -> None:
        from safetensors.torch import save

        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        write_atomic(path, save(state, {"name": self.name, "config": self.model.config.to_json(),
                                        "classes": str(self.model.num_classes)}))

    @classmethod
    def read(cls, path: Path) -> Pretrained:
        """What `write` wrote.

        Raises:
            UsageError: the file is gone or damaged.
        """
        from safetensors import SafetensorError, safe_open

        from fastvit.config import FastViTConfig
        from fastvit.model import FastViT

        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata()
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
            model = FastViT(FastViTConfig.from_json(facts["config"]), int(facts["classes"]))
            model.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{path}, the run's pretrained parent, cannot be read "
                             f"({str(error).splitlines()[0][:120]}); put it back") from None
        return cls(facts["name"], model.eval())
