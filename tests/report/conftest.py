"""Run directories written by hand, in the layout of the store, with curves one can predict."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aelab.runs.record import Run
from aelab.runs.status import this_process

Make = Callable[..., list[Run]]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _row_of_images(path: Path, shape: tuple[int, int, int], blur: float, count: int = 16) -> None:
    """`count` images in one row: a bright blob each, that moves with the image's number."""
    channels, height, width = shape
    pixels = bytearray()
    for y in range(height):
        for x in range(count * width):
            k, dx = divmod(x, width)
            distance = (dx - width * (0.3 + 0.025 * k)) ** 2 + (y - height * (0.7 - 0.025 * k)) ** 2
            value = math.exp(-distance / (4.0 + 12.0 * blur + k))
            for c in range(channels):
                pixels.append(int(255 * value * (1.0 if c == k % channels else 0.4)))
    mode = "L" if channels == 1 else "RGB"
    Image.frombytes(mode, (count * width, height), bytes(pixels)).save(path)


def _rows(final: float, images: int, every: int, nan_at: int | None) -> Iterable[dict[str, Any]]:
    """Metrics lines of one run: an exponential fall with a ripple; NaN from `nan_at` on."""
    for seen in range(every, images + 1, every):
        fall = final * (1 + 8 * math.exp(-seen / 60_000)) * (1 + 0.02 * math.sin(seen / 7_000))
        loss = math.nan if nan_at is not None and seen >= nan_at else fall
        common = {"images": seen, "seconds": round(seen / 4000, 3), "epoch": seen // 60_000}
        terms = {"loss": loss, "l1": loss * 0.9, "kl": loss * 0.1}
        yield {"split": "train", **common, **terms, "learnrate": 0.0003}
        if seen % (every * 5) == 0:
            higher = {name: value * 1.1 for name, value in terms.items()}
            yield {"split": "validation", **common, **higher}


def _status(rows: list[dict[str, Any]], state: str, max_inputs: int) -> dict[str, Any]:
    validated = [r for r in rows if r["split"] == "validation" and math.isfinite(r["loss"])]
    best = min(validated, key=lambda row: row["loss"], default=None)
    seen, seconds = (rows[-1]["images"], rows[-1]["seconds"]) if rows else (0, 0.0)
    error = {"type": "RunFailed", "message": "the loss became NaN", "hint": "lower the learnrate"}
    return {
        "state": state, "images": seen, "max_inputs": max_inputs, "epoch": 1, "seconds": seconds,
        "wall_seconds": seconds * 1.1, "images_per_second": 4000.0,
        "best": best and {"images": best["images"], "loss": best["loss"]},
        "last": validated[-1] if validated else None,
        "error": error if state == "failed" else None, "updated": "2026-01-02T03:04:05.000+00:00",
        **(this_process() if state == "running" else {}),
    }  # fmt: skip


def _provenance(name: str, count: int) -> list[dict[str, Any]]:
    note = "not the author's tiles" if name == "rpg" else ""
    sha = (name * 8).encode().hex()[:64].ljust(64, "0")
    return [{"name": name, "source": f"{name}.gz", "count": count, "sha256": sha, "note": note}]


@pytest.fixture
def make_runs(tmp_path: Path) -> Make:
    """A function that writes runs and opens them.

    Args of the function:
        matrix: key -> values, first key slowest; `trials` repeats each.
        images, every: how far each run is and how often it logs; `nan_at`, `failed`, `running`:
            positions of runs with that fate; `pictures`: image steps (0: none at all);
        shape, error, name, extra record entries.
    """

    def make(
        matrix: dict[str, list[Any]] | None = None,
        *,
        trials: int = 1,
        images: int = 200_000,
        every: int = 1000,
        nan_at: dict[int, int] | None = None,
        failed: Iterable[int] = (),
        running: Iterable[int] = (),
        pictures: int = 3,
        shape: tuple[int, int, int] = (1, 8, 8),
        message: str | None = None,
        name: str = "demo",
        record: dict[str, Any] | None = None,
    ) -> list[Run]:
        matrix = matrix or {}
        runs = []
        for number, values in enumerate(itertools.product(*matrix.values(), range(trials))):
            chosen, trial = dict(zip(matrix, values, strict=False)), values[-1]
            slug = "_".join(f"{key}-{value}" for key, value in chosen.items()) or "only"
            folder = f"{name}/{slug}" + (f"_trial-{trial}" if trials > 1 else "")
            path = tmp_path / "runs" / folder
            (path / "images").mkdir(parents=True)
            state = "failed" if number in set(failed) else "finished"
            state = "running" if number in set(running) else state
            seen = images // 2 if state != "finished" else images
            rows = list(_rows(0.02 + 0.003 * number, seen, every, (nan_at or {}).get(number)))
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (path / "metrics.jsonl").write_text(text, encoding="utf-8")
            status = _status(rows, state, images)
            if message is not None and status["error"]:
                status["error"]["message"] = message
            _write_json(path / "status.json", status)
            dataset = str(chosen.get("ds", "kali"))
            _write_json(path / "run.json", {
                "format": 1, "name": folder, "folder": folder, "identity": f"{number:08x}",
                "matrix": chosen, "matrix_id": f"{number + 1:04d}", "matrix_slug": slug,
                "seed": trial, "trial": trial if trials > 1 else None, "max_inputs": images,
                "experiment": f"{name}.yml", "legacy": [], "notes": [],
                "parameters": {"model": 1_666_193, "encoder": 700_000, "decoder": 966_193},
                "shape": list(shape), "latent_shape": [128], "flops_per_image": 12_000_000,
                "data": {"train": _provenance(dataset, 60_000),
                         "validation": _provenance(dataset, 10_000),
                         "train_content": f"t{dataset}", "validation_content": f"v{dataset}"},
                "effect": f"e{number // trials}", "extra": {}, "trust": False, **(record or {}),
            })  # fmt: skip
            lines = [f"{key}: {value}" for key, value in chosen.items()]
            (path / "resolved.yml").write_text("\n".join([*lines, "batch_size: 64", ""]), "utf-8")
            (path / "experiment.yml").write_text("batch_size: 64\n", encoding="utf-8")
            _write_json(path / "environment.json", {"python": "3.11.2", "torch": "2.13.0"})
            for split in ("train", "heldout") if pictures else ():
                _row_of_images(path / "images" / f"{split}-originals.png", shape, 0.0)
                for step in range(1, pictures + 1):
                    seen_at = seen * step // pictures
                    file = path / "images" / f"{split}-{seen_at:09d}.png"
                    _row_of_images(file, shape, 4.0 / step + 0.1 * number)
            runs.append(Run.at(path))
        return runs

    return make
