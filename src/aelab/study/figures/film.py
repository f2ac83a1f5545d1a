"""An animation of the stored reproductions of a run, over the course of training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from aelab.errors import MissingExtra, UserError
from aelab.report.pictures import image_width, open_row, originals, steps

if TYPE_CHECKING:
    from aelab.runs.record import Run

#: Milliseconds of one frame; the last one stays ten times as long.
FRAME_MS = 250
#: Kinds of animation, which are also the file suffixes.
KINDS = ("webp", "gif", "mp4")
SPLITS = ("heldout", "train")
#: Images of a row that are shown, and their least height in pixels.
SHOWN, LEAST_PIXELS = 8, 64


def frames(run: Run, split: str = "heldout", count: int = SHOWN) -> list[Image.Image]:
    """One frame for each stored image count: originals above, reproductions below.

    Raises:
        UserError: no reproductions are stored.
    """
    original, stored = originals(run, split), steps(run, split)
    if original is None or not stored:
        others = [s for s in SPLITS if s != split and originals(run, s) and steps(run, s)]
        raise UserError(
            f"run {run.folder} has no stored reproductions of '{split}' images",
            hint=f"type: -o split={others[0]}"
            if others
            else f"they are stored during training; splits are {' and '.join(SPLITS)}",
        )
    above = open_row(original)
    width = image_width(run, above.size)
    scale = max(1, -(-LEAST_PIXELS // above.height))
    size = min(above.width, width * count), above.height
    shown = size[0] * scale, size[1] * scale
    font, head, gap = ImageFont.load_default(14), 24, 4
    made = []
    for images, path in stored.items():
        picture = Image.new("RGB", (shown[0], head + 2 * shown[1] + gap), "white")
        ImageDraw.Draw(picture).text((4, head / 2), f"{images:,} images", "#111111", font, "lm")
        for top, source in ((head, above), (head + shown[1] + gap, open_row(path))):
            part = source.crop((0, 0, *size)).convert("RGB")
            picture.paste(part.resize(shown, Image.Resampling.NEAREST), (0, top))
        made.append(picture)
    return made


def film(run: Run, kind: str = "webp", split: str = "heldout", count: int = SHOWN) -> bytes:
    """The frames as an animation.

    Args:
        run: with stored reproductions.
        kind: `webp` (lossless and small), `gif` or `mp4`.
        split: `heldout` or `train`.
        count: images side by side.

    Raises:
        UserError: unknown kind, or no stored pictures.
        MissingExtra: `mp4` without PyAV.
    """
    pictures = frames(run, split, count)
    return animation(pictures, kind, [FRAME_MS] * (len(pictures) - 1) + [10 * FRAME_MS])


def animation(pictures: Sequence[Image.Image], kind: str, milliseconds: Sequence[int]) -> bytes:
    """Pictures of one size as a film that repeats.

    Args:
        pictures: one a frame.
        kind: `webp` (lossless and small), `gif` or `mp4`.
        milliseconds: how long each frame stays.

    Raises:
        UserError: unknown kind.
        MissingExtra: `mp4` without PyAV.
    """
    if kind in ("webp", "gif"):
        options: dict[str, Any] = {"lossless": True, "method": 4} if kind == "webp" else {}
        buffer = io.BytesIO()
        pictures[0].save(
            buffer,
            kind.upper(),
            save_all=True,
            append_images=pictures[1:],
            duration=list(milliseconds),
            loop=0,
            **options,
        )
        return buffer.getvalue()
    if kind == "mp4":
        return _mp4(pictures, milliseconds)
    raise UserError(f"unknown kind of film '{kind}'", hint="possible: webp, gif, mp4")


def _mp4(pictures: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    try:
        import av
    except ImportError:
        raise MissingExtra("a film as mp4", "av", "video") from None
    buffer, step = io.BytesIO(), min(milliseconds)
    # Even sizes are what the usual players take.
    width, height = (size - size % 2 for size in pictures[0].size)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1000 // step)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture, stays in zip(pictures, milliseconds, strict=True):
            frame = picture.convert("RGB").crop((0, 0, width, height))
            for _ in range(round(stays / step)):
                container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()
