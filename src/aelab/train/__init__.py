"""Training: the loop (`fit`), a step, validation, optimisers, schedules, the state of a run.

Sees images as tensors, and models and objectives through their interfaces. Must not know which
parts exist, where results are written, or who reads them.
"""

from aelab.hardware import allocator_environment
from aelab.settings import Choice, Clipping, FitSettings, as_choice
from aelab.train.batches import Batches
from aelab.train.clock import Clock
from aelab.train.clocked_modules import set_clock
from aelab.train.evaluate import evaluate
from aelab.train.events import (
    CheckpointDue,
    Event,
    Failed,
    Finished,
    Halved,
    Logged,
    Mended,
    Validated,
    ValidationHalved,
)
from aelab.train.forward import ObjectiveLike, Task
from aelab.train.learner import Learner, SoloLearner, make_learner
from aelab.train.loop import fit, step
from aelab.train.machine import choose_threads, keep_freed_memory
from aelab.train.optimizers import OPTIMIZERS, make_optimizer
from aelab.train.player import load_weights, refuse_other_shapes, settings_of_player
from aelab.train.progress import Progress
from aelab.train.rehearsal import rehearse_optimizer, rehearse_schedule
from aelab.train.schedules import SCHEDULES, TORCH_SCHEDULERS, make_schedule
from aelab.train.stacked import StackedLearner
from aelab.train.start import start_from_images
from aelab.train.state import State, make_state
from aelab.train.validation import VALIDATIONS, Validation, validation_of

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "TORCH_SCHEDULERS",
    "VALIDATIONS",
    "Batches",
    "CheckpointDue",
    "Choice",
    "Clipping",
    "Clock",
    "Event",
    "Failed",
    "Finished",
    "FitSettings",
    "Halved",
    "Learner",
    "Logged",
    "Mended",
    "ObjectiveLike",
    "Progress",
    "SoloLearner",
    "StackedLearner",
    "State",
    "Task",
    "Validated",
    "Validation",
    "ValidationHalved",
    "allocator_environment",
    "as_choice",
    "choose_threads",
    "evaluate",
    "fit",
    "keep_freed_memory",
    "load_weights",
    "make_learner",
    "make_optimizer",
    "make_schedule",
    "make_state",
    "refuse_other_shapes",
    "rehearse_optimizer",
    "rehearse_schedule",
    "set_clock",
    "settings_of_player",
    "start_from_images",
    "step",
    "validation_of",
]
