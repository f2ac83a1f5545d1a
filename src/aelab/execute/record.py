"""The files that describe a run: `run.json`, `environment.json`, `calls.json`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from aelab._version import __version__
from aelab.assembly.cost import set_to_end
from aelab.assembly.data_checks import tell
from aelab.assembly.number_checks import empty_latent
from aelab.assembly.parts import fit_settings, located
from aelab.config import RunSpec
from aelab.config.identity import with_first_names
from aelab.findings import Finding, stored_findings
from aelab.inspect import model_facts, try_anywhere
from aelab.runs.record import Run
from aelab.settings import first_name

if TYPE_CHECKING:
    from torch import nn

    from aelab.assembly.parts import Parts, Sets
    from aelab.train import Validated
    from aelab.types import ValueRange


#: Keys of data sets begin so; `globals.NAME` counts only where something else mentions it.
_OF_DATA = ("train_set", "validation_set", "globals.")


def final_record(spec: RunSpec, parts: Parts, train: Sets, validation: Sets) -> dict[str, Any]:
    """The part of a run's record that needs the built model and the loaded data."""
    shape = train[0][1].shape
    set_to_end(parts.model, fit_settings(spec, parts), len(train[0][1]))
    trial = try_anywhere(parts.model, shape)
    with located(spec.blocks["model"].where):
        tell(empty_latent(parts.model, trial))
    facts = model_facts(parts.model, shape, trial)
    content = {
        name: _content(sets) for name, sets in (("train", train), ("validation", validation))
    }
    return {
        "parameters": facts.parameters,
        "shape": list(shape),
        **train[0][1].medium.record(),
        **_range(train[0][1].value_range),
        "latent_shape": list(facts.latent_shape),
        "flops_per_image": facts.flops_per_image,
        "objective": parts.objective.describe(),
        **_own_functions(spec, parts),
        **_weights_of_losses(parts),
        **_samples(parts.model),
        "findings": as_entries([*spec.findings, *facts.findings, *parts.findings]),
        "data": {
            "train": _provenance(train),
            "validation": _provenance(validation),
            "train_content": content["train"],
            "validation_content": content["validation"],
            **_drawn_anew(validation, spec),
            **_of_validations(spec, validation),
        },
        "effect": effect(
            spec, parts, content, drawn_anew=_is_drawn(train) or _is_drawn(validation)
        ),
        "extra": {**parts.extra, **_compression(shape, facts.latent_shape)},
    }


def _samples(model: nn.Module) -> dict[str, int]:
    """Samples per image of a likelihood bound; bounds of different numbers cannot be compared."""
    samples = getattr(model, "samples", None)
    return {"samples": samples} if isinstance(samples, int) else {}


def _drawn_anew(validation: Sets, spec: RunSpec) -> dict[str, list[str]]:
    """Random changes of the held-out images, which their hash does not cover."""
    changes = [repr(change) for _, images in validation for change in images.augment]
    if changes and spec.settings.fit.freeze_validation_set:
        changes.append("once")
    return {"validation_augmentation": changes} if changes else {}


def _own_functions(spec: RunSpec, parts: Parts) -> dict[str, list[str]]:
    """The text of a loss that the file itself defines; its name alone does not identify it."""
    if all(
        term.formula_name != "reconstruction" and not term.module for term in parts.objective.terms
    ):
        return {}
    keys = [key for key in ("loss_function", "perceptual_model") if key in spec.blocks]
    return {"objective_text": [spec.words_behind(key) for key in keys]} if keys else {}


def _weights_of_losses(parts: Parts) -> dict[str, str]:
    """A hash of the weights of the loss itself, such as those of a feature network.

    If a block draws them, they depend on the seed and on earlier draws, such as those of the model.
    """
    modules = [
        t.module
        for t in parts.objective.terms
        if t.module and t.kind != "comparison" and not t.follows_player
    ]
    weights = [tensor for module in modules for tensor in module.parameters()]
    digest = hashlib.sha256()
    for tensor in weights:
        digest.update(tensor.detach().cpu().double().numpy().tobytes())
    return {"objective_weights": digest.hexdigest()} if weights else {}


def _of_validations(spec: RunSpec, validation: Sets) -> dict[str, Any]:
    """How validation inputs differ from their targets, and the number of images if limited."""
    judged = len(validation[-1][1]) if validation else 0
    settings, found = spec.settings.fit, []
    if "input_transforms" in spec.blocks:
        found.append(spec.words_behind("input_transforms"))
    if settings.training_noise and settings.noise_in_target:
        found.append(f"training_noise: {settings.training_noise:g}")
    limit = settings.validation_limit
    return {
        **({"validation_inputs": found} if found else {}),
        **({"validation_limit": limit} if limit and limit < judged else {}),
    }


def _is_drawn(sets: Sets) -> bool:
    return any(images.augment for _, images in sets)


def _range(value_range: ValueRange) -> dict[str, Any]:
    """The values of black and white, if they are not 0 and 1."""
    return {} if tuple(value_range) == (0.0, 1.0) else {"value_range": value_range}


def note_findings(run: Run, validated: Validated) -> list[Finding]:
    """Stores the findings of a validation in the run's record, one for each code.

    Each has the first and last image count at which it was seen, so that an early problem can be
    distinguished from a lasting one; its numbers are the latest.

    Returns:
        The findings that are new for this run.
    """
    if not validated.findings:
        return []
    kept, fresh = stored_findings(run.record), []
    for found in validated.findings:
        places = [n for n, old in enumerate(kept) if old.code == found.code and old.seen]
        if places:
            first = (kept[places[0]].seen or (validated.images, 0))[0]
            kept[places[0]] = replace(found, seen=(first, validated.images))
        else:
            kept.append(replace(found, seen=(validated.images, validated.images)))
            fresh.append(kept[-1])
    store_findings(run, kept)
    return fresh


def store_findings(run: Run, findings: Sequence[Finding]) -> None:
    """Replaces the findings of a run's record, and the `notes` of earlier versions."""
    old: dict[str, Any] = {"notes": []} if run.record.get("notes") else {}
    run.update_record(findings=as_entries(findings), **old)


def as_entries(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as stored in `run.json`, each once."""
    return [found.as_json() for found in dict.fromkeys(findings)]


def _provenance(sets: Sets) -> list[dict[str, Any]]:
    found = [entry._asdict() for _, images in sets for entry in images.provenance]
    return [{k: v for k, v in entry.items() if k != "left_out" or v} for entry in found]


def _content(sets: Sets) -> str:
    """A hash of all pixels of the sets with their first epochs."""
    return _hash([[epoch, images.content_sha256] for epoch, images in sets])


def effect(spec: RunSpec, parts: Parts, data: Any, *, drawn_anew: bool = False) -> str:
    """A hash of everything that determines the result except seed and names.

    Equal hash means equal experiment. If two runs with different matrix values have the same hash,
    the setting had no effect, such as an interpolation where nothing was resized.

    Args:
        spec: the run's text; all of it counts except the data sets.
        parts: built from it.
        data: hashes of the images, used instead of the text of the data sets.
        drawn_anew: whether images have random changes; then the text of the sets counts too.
    """
    settings = with_first_names(spec.settings, spec.blocks)
    for key in ("seed", "trials"):
        del settings[key]
    calls = [call for call in parts.calls.to_json() if not parts.is_data_call(call)]
    text = spec.text_behind(lambda key: drawn_anew or not key.startswith(_OF_DATA))
    text["blocks"] = {first_name(key): block for key, block in text["blocks"].items()}
    return _hash([settings, calls, data, parts.augmentation, text])


def _compression(shape: tuple[int, ...], latent_shape: tuple[int, ...]) -> dict[str, float]:
    if not latent_shape:
        return {}
    return {"compression-ratio": round(math.prod(shape) / math.prod(latent_shape), 4)}


def environment() -> dict[str, Any]:
    """Versions and machine, to reproduce the run later. Contains no user or host name."""
    return {
        "aelab": __version__,
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
    }


@cache
def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "pillow", "safetensors", "RestrictedPython")
    return {name: version(name) for name in packages}


def store_calls(run: Run, calls: Any) -> None:
    """Writes the call log once; it never changes afterwards."""
    if not (run.path / "calls.json").exists():
        run.write_json("calls.json", {"calls": calls.to_json()})


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
