"""The clock of a training: how far it is, and when something was last done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Counters that all runs of a training share. A checkpoint holds every field by its name.

    Images are the measure: whatever is due follows from them, never from the time of day.

    Attributes:
        images: images seen.
        batches, steps: batches seen, optimiser steps done.
        epoch, images_in_epoch: completed passes, and images of the present one.
        accumulated_images, accumulated_batches: those whose gradients wait for a step.
        seconds: training time, without validation and without the caller's work.
        logged_at, validated_at, checkpointed_at: images at the latest of each; -1: never.
        validated_epoch, checkpointed_epoch: epochs at the latest of each.
    """

    images: int = 0
    batches: int = 0
    steps: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    accumulated_images: int = 0
    accumulated_batches: int = 0
    seconds: float = 0.0
    logged_at: int = 0
    validated_at: int = -1
    validated_epoch: int = 0
    checkpointed_at: int = 0
    checkpointed_epoch: int = 0

    def count_batch(self, images: int, *, ends_epoch: bool) -> None:
        """Moves on by a batch of so many images."""
        self.images += images
        self.images_in_epoch += images
        self.batches += 1
        if ends_epoch:
            self.epoch, self.images_in_epoch = self.epoch + 1, 0

    def count_gradients(self, images: int, *, applied: bool) -> None:
        """Gradients of so many images came; applied, they and those before made a step."""
        if applied:
            self.steps += 1
            self.accumulated_images = self.accumulated_batches = 0
        else:
            self.accumulated_images += images
            self.accumulated_batches += 1

    def note_logged(self) -> None:
        """The training losses so far have been read."""
        self.logged_at = self.images

    def note_validated(self) -> None:
        """The model as it is has been validated."""
        self.validated_at, self.validated_epoch = self.images, self.epoch

    def note_checkpointed(self) -> None:
        """The model as it is is about to be stored because the settings ask for it."""
        self.checkpointed_at, self.checkpointed_epoch = self.images, self.epoch


def passed(count: int, done: int, every: int | None) -> bool:
    """Whether a multiple of `every` lies in (done, count]; never where it is None."""
    return every is not None and count // every > done // every
