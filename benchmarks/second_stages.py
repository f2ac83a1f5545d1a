"""Frechet distance of samples: a first stage's own samplers against runs trained on its codes.

    python benchmarks/second_stages.py runs/second-stages [COUNT]

One feature net serves all runs, because they have the same training images; `aelab evaluate` would
train the same net for each.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from aelab.lab import Lab
from aelab.metrics.distances import frechet_distance
from aelab.metrics.features import train_features
from aelab.study.sampling import sampled_images

#: First stage -> its samplers; `{}` is the seed.
SAMPLERS = {
    "vae": ("prior", "gaussian", "run:vae_vae_{}", "run:vae_flow_{}", "run:vae_diffusion_{}"),
    "vq": ("gaussian", "run:vq_pixelcnn_{}", "run:vq_transformer_{}"),
}


def main(folder: Path, count: int = 2000) -> None:
    """Prints a row for each sampler: mean, least and greatest Frechet distance over the seeds."""
    lab, name = Lab(folder.parent), folder.name
    net = real = None
    for first, samplers in SAMPLERS.items():
        found: dict[str, list[float]] = {sampler: [] for sampler in ("reproductions", *samplers)}
        for run in lab.find(f"{name}/{first}_[0-9]*"):
            seed = run.folder.rpartition("_")[2]
            opened = lab.open(run.folder)
            subject = opened.subject(count)
            if net is None:
                net = train_features(subject)
                real = net.features(subject.images)
            assert real is not None
            shown = net.features(subject.reconstructions)
            found["reproductions"].append(frechet_distance(shown, real))
            for sampler in samplers:
                text = sampler.format(seed).replace("run:", f"run:{name}/")
                made = net.features(sampled_images(opened, text, len(real)))
                found[sampler].append(frechet_distance(made, real))
        for sampler, values in found.items():
            print(
                f"{first} {sampler.format('N')}: {statistics.mean(values):.3f} "
                f"({min(values):.3f} to {max(values):.3f}, n = {len(values)})",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
