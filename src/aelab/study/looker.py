"""An opened run that is asked often: a picture through it, latents decoded, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor

from aelab.errors import UserError
from aelab.metrics import flat
from aelab.ops.value_range import to_unit
from aelab.posteriors import code_of
from aelab.study.evaluation import subject_of
from aelab.study.explored import Explored
from aelab.study.inputs import encoded_picture, unit_images
from aelab.tensor_pictures import png

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

#: Held-out images among which the nearest is searched; training images where there are none.
AMONG = 2000


class Looker:
    """Answers for a web page; what is computed once is kept.

    Args:
        opened: the run.
    """

    def __init__(self, opened: OpenedRun) -> None:
        self.opened = opened
        self._subject = subject_of(opened, limit=AMONG, train_limit=0, or_train=True)
        self._size = self._subject.latents[0].numel()

    @cached_property
    def explored(self) -> Explored:
        """Its latent space, made at the first question about it."""
        return Explored(self.opened)

    def look(self, picture: Path) -> dict[str, Any]:
        """A picture encoded and decoded, and the held-out image with the nearest code.

        Returns:
            `given`, `reconstruction` and `nearest` as PNG bytes, `code`, `label` and `name` of
            the nearest, `distance` of the two codes, `error` with its `unit`, `class` for which
            it was taken (empty unless the model needs one), `milliseconds` of
            encoding and decoding.

        Raises:
            DataError: it is no picture.
        """
        given = self.opened.inputs(picture)
        unit = unit_images(given)
        began = time.perf_counter()
        code, taken_for = encoded_picture(self.opened, unit)
        made = to_unit(self.opened.decode(code).float().cpu(), self.opened.value_range)
        spent = 1000 * (time.perf_counter() - began)
        name, error = self.opened.medium.errors(made.clamp(0, 1), unit)
        own = code_of(code, self._subject.posterior).float()
        apart = (self._subject.codes - own).square().sum(1).sqrt()
        row = int(apart.argmin())
        labels, names = self._subject.labels, self._subject.file_names
        return {
            "given": self._png(unit),
            "reconstruction": self._png(made),
            "nearest": self._png(self._subject.images[row : row + 1]),
            "class": taken_for,
            "code": flat(code)[0].tolist(),
            "label": "" if labels is None else self._subject.classes[int(labels[row])],
            "name": names[row] if names else "",
            "distance": float(apart[row]),
            "unit": name,
            "error": float(error[0]),
            "milliseconds": spent,
        }

    def worst(self, count: int = 16) -> dict[str, Any]:
        """The held-out images that the model reproduces worst, the worst first.

        Args:
            count: how many.

        Returns:
            `unit` of the errors, `among`: number of images looked at, `mean` error, and `images`:
            `name` (its file, else its row in the set), `label`, `error`, `original` and
            `reconstruction` as PNG bytes.
        """
        subject, medium = self._subject, self.opened.medium
        made = subject.reconstructions.clamp(0, 1)
        unit, errors = medium.errors(made, subject.images)
        labels, names = subject.labels, subject.file_names
        return {
            "unit": unit,
            "among": len(errors),
            "mean": float(errors.float().mean()),
            "images": [
                {
                    "name": names[row] if names else f"no. {subject.rows[row]}",
                    "label": "" if labels is None else subject.classes[int(labels[row])],
                    "error": float(errors[row]),
                    "original": self._png(subject.images[row : row + 1]),
                    "reconstruction": self._png(made[row : row + 1]),
                }
                for row in errors.argsort(descending=True, stable=True)[:count].tolist()
            ],
        }

    def decode(self, latent: Sequence[float]) -> bytes:
        """One latent, flattened, as a PNG file.

        Raises:
            UserError: it has another length, or is not finite.
        """
        values = torch.tensor(list(latent), dtype=torch.float32)
        if len(values) != self._size or not torch.isfinite(values).all():
            raise UserError(f"a latent of this run has {self._size} finite numbers")
        shaped = values.view(1, *self._subject.latents.shape[1:])
        made = self.opened.decode(shaped).float().cpu()
        return self._png(to_unit(made, self.opened.value_range))

    def _png(self, unit: Tensor) -> bytes:
        picture = self.opened.medium.picture(unit, checker=False)
        return png(rearrange(picture, "1 c h w -> h w c"))
