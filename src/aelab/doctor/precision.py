"""What `check` says about `precision: auto`: what it chose on this machine, and what it gains."""

from __future__ import annotations

import time
from collections.abc import Callable

from aelab.assembly.parts import Parts, choose_device
from aelab.assembly.precision import precision_told, settle_on_machine
from aelab.config import RunSpec
from aelab.findings import Finding
from aelab.settings import FitSettings
from aelab.train import make_state
from aelab.train.machine import has_bfloat16_units
from aelab.train.precision import STEPS_OF_A_TRIAL, PrecisionTrial
from aelab.types import Images

#: Processor seconds for all trials of a file; a run tries for itself when it begins.
SECONDS_FOR_A_FILE = 2.0
#: Settings beside batch and length that change how long a step takes.
_CHANGE_THE_TIME = ("optimizer", "micro_batch_size", "ema_decay", "threads", "channels_last")


class Precisions:
    """Tries both precisions for runs of a file while its seconds last.

    Attributes:
        device: of the runs.
        left: processor seconds that are left.
    """

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)
        self.left = SECONDS_FOR_A_FILE
        self._known: dict[str, PrecisionTrial | None] = {}

    def tried(
        self,
        model: str,
        settings: FitSettings,
        images: Images | None,
        step_seconds: float | None,
        real: Callable[[], Parts],
    ) -> PrecisionTrial | None:
        """The trial of a run, which then begins with its result; None if there was none.

        Runs that differ only in their learning rate share one.

        Args:
            model: a key that is equal for equal models, sets, objectives and lengths.
            images: the training set, if it is read.
            step_seconds: estimated for a training step.
            real: makes the parts of the run with values.
        """
        is_open = settings.precision == "auto" and self.device.type == "cpu"
        if not is_open or not has_bfloat16_units(self.device) or images is None:
            return None
        key = repr((model, [getattr(settings, name) for name in _CHANGE_THE_TIME]))
        if key in self._known:
            return self._known[key]
        if step_seconds is None or step_seconds * STEPS_OF_A_TRIAL > self.left:
            return None
        began = time.process_time()
        parts = real()
        parts.objective.prepare(images)
        state = make_state(parts.model, settings, objective=parts.objective)
        trial = settle_on_machine(state, parts.objective, [(0, images)], settings)
        self.left -= time.process_time() - began
        self._known[key] = trial
        return trial

    def told(self, spec: RunSpec, trial: PrecisionTrial | None) -> list[Finding]:
        """A note on what was chosen; none for float32 unless the file has a line `precision`."""
        place = spec.places.get("precision")
        if spec.settings.fit.precision != "auto" or self.device.type != "cpu":
            return []
        if trial is not None:
            words = precision_told(trial) if place or trial.choose_bfloat16 else ""
        elif not place:
            words = ""
        elif not has_bfloat16_units(self.device):
            words = "precision auto: float32; this processor has no bfloat16 units"
        else:
            words = "precision auto: both are tried when a run of 1,000 or more batches begins"
        return [Finding("note", "precision-chosen", words, where=place)] if words else []
