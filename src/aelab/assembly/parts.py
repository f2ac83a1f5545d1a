"""Builds a run's parts from its text: model, objective, data, and settings of the loop."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aelab import catalogue, pretrained, roots
from aelab.assembly.placement import OneDevice
from aelab.assembly.workspace import Workspace
from aelab.catalogue.parts import refuse_uncalled, unwrapped
from aelab.config import RunSpec, evaluate_blocks, mistake_of, passes_through
from aelab.config.old_programs import old_numbers
from aelab.config.settings import DATA_KEY
from aelab.data import Dataset, augmentations
from aelab.data.augment import refuse_missing_in
from aelab.data.transforms import flat_transforms
from aelab.errors import AelabError, ConfigError, Mistakes, Where, did_you_mean, one_of
from aelab.findings import Finding
from aelab.hardware import asked_threads
from aelab.inspect import as_model, harmless_probes
from aelab.losses import make_objective
from aelab.medium import medium_of
from aelab.ops.labels import with_labels_for
from aelab.ops.random import seed_default
from aelab.settings import FitSettings

if TYPE_CHECKING:
    from torch import nn

    from aelab.catalogue import CallLog
    from aelab.losses import Objective
    from aelab.roots import Roots
    from aelab.types import Images


class Scheduled(NamedTuple):
    """A data set that is used from `first_epoch` on, and its place in the file."""

    first_epoch: int
    dataset: Dataset
    where: Where


@dataclass
class Parts:
    """The parts of a run.

    Attributes:
        model: a model with the interface of `types.Model`.
        objective: named terms times weights.
        train, validation: data sets by first epoch; no pixels have been read yet.
        input_transforms: random changes applied to the input but not to the target.
        device: where to train.
        calls: all calls of parts in order, with all arguments.
        extra: the values that blocks stored in EXTRA_VALUES.
        findings: findings about the images; filled when they are loaded.
    """

    model: nn.Module
    objective: Objective
    train: list[Scheduled]
    validation: list[Scheduled]
    device: torch.device
    calls: CallLog
    input_transforms: tuple[Any, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    augmentation: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def is_data_call(self, call: Mapping[str, Any]) -> bool:
        """Whether a logged call made a data part: for those, pixels count instead of arguments."""
        return catalogue.is_data_part(str(call["name"]))


def build(
    spec: RunSpec,
    workspace: Workspace,
    *,
    reading: Roots | None = None,
    calls: Sequence[Mapping[str, Any]] | None = None,
    meta: bool = False,
    restored: bool = False,
) -> Parts:
    """Evaluates a run's blocks in the order of the file.

    Args:
        spec: the run's resolved text.
        workspace: folders of data, trust, and the device.
        reading: folders that data may be read from, if these differ from those of the workspace
            and the file.
        calls: call log of an earlier session; it supplies arguments that the text leaves out.
        meta: build the model on the meta device: shapes without memory.
        restored: a stored state will replace all weights, so files of weights are not needed.

    Raises:
        ConfigError: a block is wrong, with file, line and key; several as `Problems`.
    """
    log = catalogue.CallLog(calls)
    reading = reading or workspace.reading(spec)
    names = catalogue.names(log, reading)
    scope = spec.scope(names, catalogue.attributes(), trust=workspace.trust)
    # Weights are drawn from the default generator, here and nowhere else.
    seed_default(spec.seed)
    filled = pretrained.restoring() if restored else contextlib.nullcontext()
    place = torch.device("meta" if meta else "cpu")
    quiet = _silent_about_empty_weights()
    with place, OneDevice(), roots.entering(reading), harmless_probes(), filled, quiet:
        values = evaluate_blocks(spec, scope, _on_cpu_where_data)
    log.finish()
    refuse_uncalled(values["model"], spec.blocks["model"].where)
    with users_code(spec, spec.blocks["model"].where):
        model = as_model(values["model"])
    objective, train, validation = _objective_and_sets(spec, model, values)
    return Parts(
        model=model,
        objective=objective,
        train=train,
        validation=validation,
        device=choose_device(workspace.device),
        calls=log,
        input_transforms=_input_transforms(values, spec, [*train, *validation]),
        extra=dict(scope.extra_values),
    )


@contextlib.contextmanager
def _silent_about_empty_weights() -> Iterator[None]:
    """Silences torch's warning about empty weights: an empty latent is reported elsewhere."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        yield


def _on_cpu_where_data(key: str) -> contextlib.AbstractContextManager[Any]:
    """Builds data on the CPU even if the model is built on the meta device."""
    return torch.device("cpu") if DATA_KEY.match(key) else contextlib.nullcontext()


def _objective_and_sets(
    spec: RunSpec, model: nn.Module, values: Mapping[str, Any]
) -> tuple[Objective, list[Scheduled], list[Scheduled]]:
    """The objective, the training sets and the validation sets; raises all errors together."""
    mistakes = Mistakes()
    with mistakes.collected():
        objective = _objective(spec, model, values)
    with mistakes.collected():
        train = _scheduled(values, spec, "train_set")
    with mistakes.collected():
        validation = _scheduled(values, spec, "validation_set")
    mistakes.tell()
    for entry in [*train, *validation]:
        with located(entry.where):
            entry.dataset.medium.refuse_model(medium_of(model))
    return objective, train, validation


def _objective(spec: RunSpec, model: nn.Module, values: Mapping[str, Any]) -> Objective:
    """The objective of the file, else the model's default objective."""
    settings = spec.settings
    for key in ("loss_function", "perceptual_model"):
        if isinstance(unwrapped(values.get(key)), type):
            refuse_uncalled(values[key], spec.blocks[key].where)
    with users_code(spec, spec.places.get("objective" if settings.objective else "loss_function")):
        objective = make_objective(
            model.terms,  # type: ignore[arg-type]
            loss_function=values.get("loss_function", settings.loss_function),
            objective=settings.objective,
            stand_ins=dict(
                pair for old in old_numbers(settings.legacy) for pair in old.stand_ins.items()
            ),
            feature_loss_weight=settings.feature_loss_weight,
            perceptual_model=unwrapped(values.get("perceptual_model")),
        )
        painted = [term.name for term in objective.terms if term.kind == "reconstruction"]
        medium = medium_of(model)
        if medium.a_loss and painted:
            raise ConfigError(
                f"this model outputs {medium.name}, so the pixel loss {one_of(painted)} gives no "
                "gradient",
                hint=medium.a_loss,
            )
        return objective


#: Image sets by first epoch.
Sets = list[tuple[int, "Images"]]


def load_images(parts: Parts) -> tuple[Sets, Sets]:
    """Reads the pixels of the training sets and of the validation sets.

    Raises:
        DataError: missing or corrupt files.
        ConfigError: a set is empty.
    """
    train = [(entry.first_epoch, _load(entry)) for entry in parts.train]
    validation = [(entry.first_epoch, _load(entry)) for entry in parts.validation]
    sets = [images for _, images in train + validation]
    for images in sets:
        if len(images) == 0:
            raise ConfigError("an image set is empty", hint="look at it with: aelab data NAME")
    with located(next((entry.where for entry in parts.train), None)):
        train, validation = with_labels_for(parts.model, train, validation)
    parts.augmentation = [repr(change) for _, images in train for change in images.augment]
    return train, validation


def _load(entry: Scheduled) -> Images:
    with located(entry.where):
        return entry.dataset.load()


@contextlib.contextmanager
def located(where: Where | None) -> Iterator[None]:
    """Context manager: gives errors without a place in the file this one."""
    try:
        yield
    except AelabError as error:
        if error.where is None or not str(error.where):
            error.where = where
        raise


@contextlib.contextmanager
def users_code(spec: RunSpec, where: Where | None) -> Iterator[None]:
    """Context manager for calls of the file's own losses, functions and classes.

    Any exception they raise is a mistake of the file: it is reported with the user's line, and
    ends only this run.

    Args:
        spec: the run.
        where: the place to report if the traceback has no line of the file.

    Raises:
        AelabError: from inside, with a place; anything else as a `ConfigError`.
    """
    try:
        with located(where):
            yield
    except AelabError:
        raise
    except (Exception, SystemExit) as error:
        raise mistake_of(error, spec.blocks, where) from error


@contextlib.contextmanager
def functions_of(spec: RunSpec) -> Iterator[None]:
    """Context manager for using a trained model: errors in functions of its file are its mistakes.

    Raises:
        ConfigError: with the user's line; everything else as it is.
    """
    try:
        yield
    except AelabError:
        raise
    except Exception as error:
        if not passes_through(error, spec.blocks):
            raise
        raise mistake_of(error, spec.blocks, spec.blocks["model"].where) from error


def called_loss(error: BaseException) -> bool:
    """Whether an exception comes from calling a loss defined in the file."""
    return "losses/names.py:apply_callable" in _way(error)


def key_of_error(error: BaseException, spec: RunSpec) -> Where:
    """The key of the file that caused an error in training, by the packages in its traceback."""
    named = getattr(error, "where", None)
    if named and named.key in spec.places:
        return spec.places[named.key]
    rooms = [step.partition("/")[0] for step in _way(error)]
    room = next((room for room in reversed(rooms) if room in ("losses", "models")), "")
    objective = "objective" if spec.settings.objective else "loss_function"
    if room == "losses" and objective in spec.places:
        return spec.places[objective]
    return spec.blocks["model"].where if room else Where(spec.file)


def _way(error: BaseException) -> list[str]:
    """`package/module.py:function` of every function of aelab in a traceback."""
    home, trace, steps = Path(__file__).parents[1], error.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        if Path(code.co_filename).is_relative_to(home):
            steps.append(f"{Path(code.co_filename).relative_to(home).as_posix()}:{code.co_name}")
        trace = trace.tb_next
    return steps


def fit_settings(spec: RunSpec, parts: Parts | None, *, threads: int | None = None) -> FitSettings:
    """The training loop's settings, completed with values from the parts and this machine."""
    fit, transforms = spec.settings.fit, parts.input_transforms if parts else ()
    threads = threads or asked_threads()
    if (transforms, threads) == (fit.input_transforms, fit.threads):
        return fit
    return replace(fit, input_transforms=transforms, threads=threads)


def choose_device(name: str) -> torch.device:
    """A torch device by name; `auto` takes CUDA, else Apple's, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, index = name.partition(":")
    if kind not in available or not (index.isdigit() or not index):
        raise ConfigError(
            f"no device '{name}'; possible: auto, cpu, cuda, cuda:N, mps"
            f"{did_you_mean(kind, available)}",
            where=Where(key="--device"),
            hint="type: --device auto, which takes the fastest there is",
        )
    if not available[kind] or (
        index and kind == "cuda" and int(index) >= torch.cuda.device_count()
    ):
        here = one_of(kind for kind, there in available.items() if there)
        raise ConfigError(
            f"'{name}' is not available; here: {here}",
            where=Where(key="--device"),
            hint="type: --device auto, which takes the fastest there is",
        )
    return torch.device(name)


def _scheduled(values: Mapping[str, Any], spec: RunSpec, prefix: str) -> list[Scheduled]:
    """`train_set` and `train_setN`, by first epoch."""
    found = []
    for key, value in values.items():
        if DATA_KEY.match(key) and key.startswith(prefix):
            where = spec.blocks[key].where
            refuse_uncalled(value, where)
            if not isinstance(value, Dataset):
                raise ConfigError(
                    f"must be a data set, not {type(value).__name__}",
                    where=where,
                    hint="for instance mnist_dataset(train=True), or TensorDataset(tensor)",
                )
            found.append(Scheduled(int(key.removeprefix(prefix) or 0), value, where))
    return sorted(found, key=lambda entry: entry.first_epoch)


def _input_transforms(
    values: Mapping[str, Any], spec: RunSpec, sets: Sequence[Scheduled]
) -> tuple[Any, ...]:
    """The input transforms: functions of one image as in a data set, applied to the input only.

    Raises:
        ConfigError: the images' medium allows no such change, or no `training_noise`.
    """
    noise = "training_noise"
    if spec.settings.fit.training_noise:
        with located(spec.places.get(noise, Where(spec.file, key=noise))):
            for entry in sets:
                entry.dataset.medium.refuse(entry.dataset.name, noise, of_input=True)
    value = values.get("input_transforms")
    if value is None:
        return ()
    where = spec.blocks["input_transforms"].where
    with located(where):
        for entry in sets:
            entry.dataset.medium.refuse(entry.dataset.name, *flat_transforms(value), of_input=True)
        changes = augmentations(value)
        refuse_missing_in(where.key or "input_transforms", changes)
        return changes
