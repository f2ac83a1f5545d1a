"""Findings: problems, warnings and notes about files, data sets, runs and the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aelab.errors import AelabError, Problems, Where, visible

#: `problem` prevents a run, `warning` means that its result is probably not what the user wants,
#: `note` is a fact for readers of the result.
Level = Literal["problem", "warning", "note"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "note")


class Code(NamedTuple):
    """An entry of `CODES`.

    Attributes:
        levels: possible levels, the most severe first.
        meaning: one sentence.
        has_figures: whether its message has figures that differ between runs with the same fault;
            then the first stands for all in a list of many runs.
    """

    levels: tuple[Level, ...]
    meaning: str
    has_figures: bool = False


@dataclass(frozen=True)
class Finding:
    """A problem, a warning, or a note for readers of the results.

    Attributes:
        level: `problem`: it is wrong (`check` and `run` stop); `warning`: it most likely spoils the
            result; `note`: it is unusual but may be intended.
        code: a short stable name for tests and JSON, for instance `data-not-finite`; see `CODES`.
        message: what was found, where and by how much.
        way_out: what to type or change; empty if nothing needs to be done.
        where: the place in the experiment file, if there is one.
        seen: image counts at which it was found first and last; None before training.
    """

    level: Level
    code: str
    message: str
    way_out: str = ""
    where: Where | None = None
    seen: tuple[int, int] | None = None

    def __str__(self) -> str:
        """Two lines, as for errors: the place and the message, then what to do."""
        told = self._placed()
        return f"{told}\n  {self.way_out}" if self.way_out else told

    def told(self) -> str:
        """One line with the place in the file, for the screen."""
        return f"{self._placed()}; {self.way_out}" if self.way_out else self._placed()

    def line(self) -> str:
        """One line without the place, for tables and reports of stored runs."""
        when = f"{_images(self.seen)}: " if self.seen else ""
        return f"{when}{self.message}; {self.way_out}" if self.way_out else f"{when}{self.message}"

    def _placed(self) -> str:
        when = f"{_images(self.seen)}: " if self.seen else ""
        return when + (self.where.before(self.message) if self.where else self.message)

    def as_json(self) -> dict[str, Any]:
        """Plain data for `--json` and the record of a run; contains no folder of this machine."""
        found: dict[str, Any] = {
            "level": self.level,
            "code": self.code,
            "message": self.message,
            "way_out": self.way_out,
        }
        if self.where and str(self.where):
            file = self.where.file.replace("\\", "/").rpartition("/")[2] if self.where.file else ""
            place = {"file": file, "line": self.where.line, "key": self.where.key}
            found["where"] = {name: value for name, value in place.items() if value}
        if self.seen:
            found["seen"] = list(self.seen)
        return found

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Finding:
        """The inverse of `as_json`; tolerates missing and wrong entries."""
        level = entry.get("level")
        where, seen = entry.get("where"), entry.get("seen")
        place = where if isinstance(where, Mapping) else {}
        line = place.get("line")
        return cls(
            next((known for known in LEVELS if known == level), "note"),
            str(entry.get("code") or STORED_NOTE),
            str(entry.get("message") or ""),
            str(entry.get("way_out") or ""),
            Where(
                _text_or_none(place.get("file")),
                line if isinstance(line, int) else None,
                key=_text_or_none(place.get("key")),
            )
            if place
            else None,
            (seen[0], seen[1])
            if isinstance(seen, list) and len(seen) == 2 and all(type(n) is int for n in seen)
            else None,
        )

    @classmethod
    def of_error(cls, error: AelabError) -> Finding:
        """The problem for an error."""
        told = visible(error.message)
        return cls("problem", error.code, told, visible(error.hint or ""), error.where)


#: The code of a note that an earlier version stored as text.
STORED_NOTE = "stored-note"


def of_errors(errors: Iterable[AelabError]) -> list[Finding]:
    """The problems for errors, each once; `Problems` counts as its errors."""
    found: list[Finding] = []
    for error in errors:
        found += (
            of_errors(error.errors) if isinstance(error, Problems) else [Finding.of_error(error)]
        )
    return list(dict.fromkeys(found))


def at_level(level: Level, findings: Iterable[Finding]) -> list[Finding]:
    """The findings of one level, each once."""
    return [found for found in dict.fromkeys(findings) if found.level == level]


def below_problems(findings: Iterable[Finding]) -> list[Finding]:
    """The warnings, then the notes, each once."""
    once = list(dict.fromkeys(findings))
    return [*at_level("warning", once), *at_level("note", once)]


def has_figures(found: Finding) -> bool:
    """Whether its message differs between runs with the same fault, see `Code.has_figures`."""
    return found.code in CODES and CODES[found.code].has_figures


def stored_findings(record: Mapping[str, Any]) -> list[Finding]:
    """The findings in the record of a run, or its `notes` from earlier versions.

    Earlier versions stored every note as text under `notes`, and notes about data also under
    `findings`; such a text is returned as its finding, with the code.

    Args:
        record: content of `run.json`.
    """
    entries = record.get("findings") or []
    found = [Finding.from_json(entry) for entry in entries if isinstance(entry, dict)]
    notes = record.get("notes")
    if not notes:
        return found
    known = {entry.line(): entry for entry in found}
    lines = [known.get(str(note)) or Finding("note", STORED_NOTE, str(note)) for note in notes]
    return list(dict.fromkeys(lines))


def _images(seen: tuple[int, int]) -> str:
    """`at 480 images`, `from 480 to 960 images`."""
    first, last = seen
    return f"at {first:,} images" if first == last else f"from {first:,} to {last:,} images"


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_PROBLEM: tuple[Level, ...] = ("problem",)
_WARNING: tuple[Level, ...] = ("warning",)
_NOTE: tuple[Level, ...] = ("note",)
_BOTH: tuple[Level, ...] = ("problem", "note")

#: Every code; `docs/doctor.md` has the same table.
CODES: dict[str, Code] = {
    # errors of the text, the files, the store
    "config": Code(_PROBLEM, "a key or a value of the experiment file is wrong"),
    "not-allowed": Code(_PROBLEM, "a block asks for something that only `--trust` allows"),
    "data": Code(_PROBLEM, "a data file is missing, corrupt, or not what it should be"),
    "shapes": Code(_PROBLEM, "sizes do not fit together"),
    "package-missing": Code(_PROBLEM, "a part needs a package that is not installed"),
    "store": Code(_PROBLEM, "a run directory cannot be read or written"),
    "failed": Code(_PROBLEM, "training failed"),
    "diverged": Code(_PROBLEM, "a loss or a weight is no longer finite"),
    "mistake": Code(_PROBLEM, "any other mistake that ends in one message"),
    # the text of a file
    "old-boolean": Code(_NOTE, "`yes`, `no`, `on`, `off` without quotes are text, not booleans"),
    "named-apart": Code(_NOTE, "runs of an old file have one name, so their values are added"),
    "key-without-effect": Code(_NOTE, "a key is read and changes nothing"),
    "axis-without-effect": Code(_NOTE, "a matrix key changes nothing in some runs, or in all"),
    "text-beside-numbers": Code(_NOTE, "a matrix key has numbers, and text that looks like one"),
    "legacy-trainer": Code(_NOTE, "the trainer's name turns the legacy objective on"),
    "legacy-objective": Code(_NOTE, "losses compare with the old tables, not with other runs"),
    # data
    "data-source": Code(_NOTE, "what a reader must know of where the images come from"),
    "data-no-images": Code(_PROBLEM, "a set is empty, or its tensor has no images"),
    "data-channels-last": Code(_PROBLEM, "images are (height, width, channels)"),
    "data-not-finite": Code(_PROBLEM, "a pixel is NaN or infinite"),
    "data-out-of-range": Code(_BOTH, "values are beyond the range of the images"),
    "data-loss-range": Code(_BOTH, "a loss is not meant for the values of the images"),
    "data-constant": Code(_NOTE, "all pixels or all images are the same, or there is one only"),
    "data-labels": Code(_PROBLEM, "labels are not one whole number per image"),
    "data-labels-differ": Code(_NOTE, "only one side has images of a class"),
    "not-trained": Code(_PROBLEM, "the run whose latents are used is not trained to its end"),
    "no-classes": Code(_PROBLEM, "a model is conditioned on classes, and a set has none"),
    "too-many-classes": Code(_PROBLEM, "a set has more classes than the model knows"),
    "no-factors": Code(_PROBLEM, "images are compared by their factors, and a set has none"),
    "nothing-in-common": Code(_PROBLEM, "the two images of a pair may differ in every factor"),
    "data-overlap": Code(_NOTE, "validation images are, or nearly are, training images"),
    "data-ranges-differ": Code(_PROBLEM, "training and validation images have different ranges"),
    "data-shapes-differ": Code(_PROBLEM, "the sets of a run have images of different shapes"),
    "input-transforms": Code(_PROBLEM, "the changes of the input spoil the images"),
    "validation-drawn-anew": Code(_NOTE, "each validation draws other random changes"),
    # numbers of a run
    "batch-of-one": Code(_PROBLEM, "a batch of one image, where a norm needs two"),
    "batch-above-set": Code(_NOTE, "a batch is larger than the training set"),
    "warmup-too-long": Code(_NOTE, "a warm-up is longer than the run"),
    "learnrate-high": Code(_NOTE, "the learning rate is over 100 times the usual one"),
    "min-loss-unmeasured": Code(_BOTH, "`min_loss` without a validation set"),
    "end-by-loss-only": Code(_NOTE, "`min_loss` is the only end of the run"),
    "precision-chosen": Code(_NOTE, "what `precision: auto` is on this machine, and what it gains"),
    # the model
    "critic": Code(_NOTE, "a critic of the objective learns beside the model"),
    "model-note": Code(_NOTE, "what a model says of itself"),
    "latent-empty": Code(_PROBLEM, "the latent has size 0"),
    "output-out-of-reach": Code(_NOTE, "the last activation cannot give the images' range"),
    # the doctor's checks
    "result-unused": Code(_WARNING, "a line of a block computes something and throws it away"),
    "schedule-jumps": Code(_WARNING, "the learning rate rises 100-fold after the warm-up", True),
    "schedule-rises-again": Code(
        _WARNING, "the learning rate passes its minimum and rises again, or rises to the end", True
    ),
    "schedule-ends-early": Code(_WARNING, "the learning rate is 0 long before the end", True),
    "validation-in-training-mode": Code(
        _WARNING, "dropout, noise or batch statistics are in each validation", True
    ),
    "random-in-evaluation": Code(_WARNING, "the model is random in evaluation mode", True),
    "batch-mates": Code(
        _WARNING, "the output for an image depends on the other images of its batch", True
    ),
    "tiny-last-batch": Code(
        _WARNING, "a norm takes statistics of a last batch of very few values", True
    ),
    "pixels-unreached": Code(
        _WARNING, "pixels that no latent changes, although the images vary there", has_figures=True
    ),
    "output-stuck": Code(
        _WARNING, "many outputs are wrong and have no gradient at the start", True
    ),
    "output-saturates": Code(
        _WARNING, "the loss pulls the last activation into its flat part", True
    ),
    "latent-too-wide": Code(
        ("warning", "note"), "the latent has more numbers than the images have directions", True
    ),
    "noise-in-target": Code(_WARNING, "part of the training loss is noise", True),
    "kl-no-divergence": Code(_WARNING, "a term called KL is not 0 at the prior", True),
    "free-rescaling": Code(_WARNING, "scaling the code down lowers the loss without end", True),
    "term-bounded": Code(_WARNING, "most of a term stays for a perfect output", True),
    "term-without-gradient": Code(_WARNING, "a term has no gradient at the start", True),
    "term-outweighed": Code(_WARNING, "a term outweighs another 100 to 1 at the start", True),
    "kl-collapse": Code(_WARNING, "the weight of the KL collapses the code", True),
    "kl-without-effect": Code(_NOTE, "the weight of the KL does nothing", True),
    "learnrate-low": Code(_WARNING, "the learning rate is far too low; tried", True),
    "learnrate-explodes": Code(_WARNING, "the learning rate is far too high; tried", True),
    "check-failed": Code(_NOTE, "a check could not look at this run"),
    # the watch over a run
    "evaluation-mode-broken": Code(_WARNING, "running statistics are off: evaluation fails"),
    "best-chosen-anew": Code(_NOTE, "an earlier version chose the best state by other weights"),
    "latent-collapsed": Code(_WARNING, "the latent tells nothing: its KL divergence is zero"),
    "output-constant": Code(_WARNING, "all pictures of a model are the same"),
    "code-bypassed": Code(
        ("warning", "note"), "pictures are made of more than the code", has_figures=True
    ),
    "solver-diverges": Code(
        ("problem", "warning"),
        "a model does not solve the equations of its own steps",
        has_figures=True,
    ),
    "codes-dead": Code(_WARNING, "few entries of a codebook are used"),
    "batch-in-parts": Code(_NOTE, "memory did not suffice for a whole batch"),
    "validation-in-parts": Code(_NOTE, "memory did not suffice for a batch of a validation"),
    "numbers-ended": Code(_NOTE, "numbers ended, and `on_nan` went on: see `incident.html`"),
    "worse-than-untrained": Code(_WARNING, "the loss ended above that of the untrained model"),
    "writes-only-spaces": Code(_WARNING, "a model that writes gives spaces only"),
    "writes-only-unseen": Code(_WARNING, "a model writes characters that its loss cannot see"),
    "writes-one-text": Code(_WARNING, "a model writes the same text for every picture"),
    "trained-elsewhere": Code(_NOTE, "another machine trains this run"),
    # the store
    STORED_NOTE: Code(_NOTE, "a line of text that an earlier version stored with a run"),
    "run-damaged": Code(_PROBLEM, "files of a run are damaged"),
}
