"""The counters of a training: images, batches, epochs, and when it last logged or validated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Clock:
    """Counters that all runs of a training share. A checkpoint holds every field by its name.

    Logs, validations and checkpoints become due by images or epochs, never by the time of day.

    Attributes:
        images: images seen.
        batches, steps: batches seen, optimiser steps done.
        epoch, images_in_epoch: completed passes, and images seen in the current one.
        accumulated_images, accumulated_batches: seen since the latest optimiser step.
        seconds: training time, without validation and without the caller's work.
        cpu_seconds: what all threads of the process computed in that time; on a shared machine the
            fairer measure of what a run costs.
        logged_at, validated_at, checkpointed_at: image count at the latest one; -1: never.
        validated_epoch, checkpointed_epoch: epoch at the latest one.
    """

    images: int = 0
    batches: int = 0
    steps: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    accumulated_images: int = 0
    accumulated_batches: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    logged_at: int = 0
    validated_at: int = -1
    validated_epoch: int = 0
    checkpointed_at: int = 0
    checkpointed_epoch: int = 0

    def count_batch(self, images: int, *, ends_epoch: bool) -> None:
        """Counts one batch of `images` images."""
        self.images += images
        self.images_in_epoch += images
        self.batches += 1
        if ends_epoch:
            self.epoch, self.images_in_epoch = self.epoch + 1, 0

    def count_gradients(self, images: int, *, applied: bool) -> None:
        """Counts the gradients of `images` images: as an optimiser step, or as accumulated."""
        if applied:
            self.steps += 1
            self.accumulated_images = self.accumulated_batches = 0
        else:
            self.accumulated_images += images
            self.accumulated_batches += 1

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Counts the time of what happens inside as training time."""
        started, computed = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - computed

    def note_logged(self) -> None:
        """Records that the training losses were logged now."""
        self.logged_at = self.images

    def note_validated(self) -> None:
        """Records that the model was validated now."""
        self.validated_at, self.validated_epoch = self.images, self.epoch

    def note_checkpointed(self) -> None:
        """Records that a checkpoint is due now by the settings."""
        self.checkpointed_at, self.checkpointed_epoch = self.images, self.epoch


def passed(count: int, done: int, every: int | None) -> bool:
    """Whether a multiple of `every` lies in (done, count]; False if `every` is None."""
    return every is not None and count // every > done // every
