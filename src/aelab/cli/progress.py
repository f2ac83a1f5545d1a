"""Shows the events of a matrix on stderr: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from aelab import lab
from aelab.cli.output import terminal
from aelab.execute import events as ev
from aelab.findings import Finding, below_problems

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

#: Seconds between two plain lines of one run.
PLAIN_INTERVAL_SECONDS = 10.0

#: Key of the file that ended a run -> the reason in words.
_REASONS = {
    "max_images": "max_images reached",
    "max_epochs": "max_epochs reached",
    "min_loss": "min_loss reached",
}


class Screen(Protocol):
    """The interface of a display of events."""

    def show(self, event: ev.Event) -> None:
        """Shows one event, if it has anything to show."""

    def prepare(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` steps of reading or rendering data are done."""

    def close(self) -> None:
        """Releases the terminal; called once, also after an error."""


def show_progress(
    events: Iterable[ev.Event], *, quiet: bool = False, text: bool = False
) -> Iterator[ev.Event]:
    """Shows each event on stderr and yields it.

    Args:
        events: the events of a matrix.
        quiet: show only results and failures, in plain lines.
        text: for runs that output text, show an example at each stored moment; otherwise one at
            the end of a run, on a terminal.
    """
    console = None if quiet else terminal()
    screen: Screen = LiveScreen(console, text) if console else PlainScreen(quiet, text)
    try:
        with lab.preparing(screen.prepare):
            for event in events:
                screen.show(event)
                yield event
    finally:
        screen.close()


@contextmanager
def showing_progress() -> Iterator[None]:
    """Context manager: shows progress of work on images on stderr, if it takes over 2 seconds."""
    console = terminal()
    screen: Screen = LiveScreen(console) if console else PlainScreen()
    try:
        with lab.preparing(screen.prepare):
            yield
    finally:
        screen.close()


def duration(seconds: float | None) -> str:
    """Text such as `42 s`, `3:05 min`, `2:10 h`, `4.5 days`; a dash if unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole > 48 * 3600:
        return f"{whole / 86_400:,.1f} days"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _finished(event: ev.RunFinished) -> str:
    loss = f"loss {event.loss:.6g}, " if event.loss is not None else ""
    reason = _REASONS.get(event.reason, event.reason)
    return f"{event.images:,} images, {loss}{duration(event.seconds)} ({reason})"


def example_text(event: ev.RunValidated | ev.RunFinished) -> str:
    """A run's example beside its original, under a heading."""
    head = f"  {event.name}: held-out original   |   reconstruction, {event.images:,} images"
    return f"{head}\n{event.text}"


def runs_text(count: int) -> str:
    """Text such as `1 run`, `2 runs`."""
    return f"{count} run{'s' * (count != 1)}"


class Said:
    """Remembers texts, so that each is shown once for any number of runs."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def new(self, texts: Iterable[str]) -> list[str]:
        """The texts that were not shown before."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._said]
        self._said.update(fresh)
        return fresh

    def lines(self, findings: Iterable[Finding]) -> list[str]:
        """Lines `note: ...` for findings not shown before, the most severe first."""
        told = (f"{found.level}: {found.told()}" for found in below_problems(findings))
        return self.new(told)


class PlainScreen:
    """Lines for a file or a pipe: starts, ends, and a progress line every few seconds."""

    def __init__(self, quiet: bool = False, text: bool = False) -> None:
        self._quiet, self._text_wanted = quiet, text
        self._last_lines: dict[str, float] = {}
        self._forecasts: dict[str, str] = {}
        self._said = Said()

    def show(self, event: ev.Event) -> None:
        """Prints the event as one line on stderr, if it has one."""
        text = self._text(event)
        unwanted = ev.RunProgress | ev.RunStarted | ev.MatrixProgress
        if text and not (self._quiet and isinstance(event, unwanted)):
            print(text, file=sys.stderr, flush=True)

    def prepare(self, what: str, done: int, total: int) -> None:
        """Prints the progress of reading or rendering data."""
        if self._is_due(what) or done == total:
            print(f"  {what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Does nothing: no terminal is held."""

    def _forecast(self, name: str) -> str:
        told = self._forecasts.get(name, "")
        return f"; {told}" if told else ""

    def _is_due(self, about: str) -> bool:
        """Whether enough time has passed since the last line about a run, a set or the matrix."""
        now = time.monotonic()
        if now - self._last_lines.get(about, float("-inf")) < PLAIN_INTERVAL_SECONDS:
            return False
        self._last_lines[about] = now
        return True

    def _text(self, event: ev.Event) -> str | None:
        match event:
            case ev.MatrixStarted():
                told = "".join(f"\n{line}" for line in self._said.lines(event.findings))
                return f"{runs_text(len(event.names))}{told}"
            case ev.RunStarted():
                at = f", continues at {event.images:,} images" if event.images else ""
                told = "".join(f"\n  {line}" for line in self._said.lines(event.findings))
                return (
                    f"[{event.number}] {event.name}: {event.parameters:,} parameters, "
                    f"{event.threads} thread{'s' * (event.threads > 1)}{at}{told}"
                )
            case ev.RunProgress():
                if not self._is_due(event.name):
                    return None
                return f"  {event.name}: {progress_text(event)}{self._forecast(event.name)}"
            case ev.MatrixProgress():
                return f"  {matrix_text(event)}" if self._is_due("") else None
            case ev.Preparing():
                self.prepare(event.what, event.done, event.total)
                return None
            case ev.RunErred():
                return failure_text(event, self._said)
            case ev.RunValidated():
                self._forecasts[event.name] = event.forecast
                shown = example_text(event) if event.text and self._text_wanted else ""
                return "\n".join(filter(None, [warning_text(event), shown])) or None
            case ev.RunFinished():
                shown = f"\n{example_text(event)}" if event.text and self._text_wanted else ""
                return f"  finished {event.name}: {_finished(event)}{shown}"
            case _:
                return outcome_text(event)


def progress_text(event: ev.RunProgress) -> str:
    """Text such as `12,000/60,000 images, loss 0.0312, 410 images/s, 2:04 min left`."""
    of = f"/{event.max_images:,}" if event.max_images else ""
    return (
        f"{event.images:,}{of} images, loss {event.loss:.5g}, "
        f"{event.images_per_second:,.0f} images/s, {duration(event.seconds_left)} left"
    )


def matrix_text(event: ev.MatrixProgress) -> str:
    """Text such as `3 of 36 runs, 820 images/s, 2:10 h left`."""
    return (
        f"{event.done} of {runs_text(event.total)}, {event.images_per_second:,.0f} images/s, "
        f"{duration(event.seconds_left)} left"
    )


def warning_text(event: ev.RunValidated) -> str:
    """A line for each new finding; empty without any."""
    return "\n".join(f"  {found.level} {event.name}: {found.told()}" for found in event.findings)


def failure_text(event: ev.RunErred, said: Said) -> str:
    """The line for a failed run; a reason shown before is not repeated."""
    reason = event.message if said.new([event.message]) else "for the same reason"
    return f"  FAILED {event.name}: {reason}"


def summary_text(event: ev.MatrixFinished) -> str:
    """Text such as `120 finished, 0 skipped, 30 failed (30 impossible)`."""
    why = {"failed before": event.failed_before, "in training by other processes": event.held}
    told = ", ".join(f"{count} {words}" for words, count in why.items() if count)
    before = f" ({told})" if told else ""
    impossible = f" ({event.impossible} impossible)" if event.impossible else ""
    end = ", interrupted" if event.interrupted else ""
    end = f", {event.stopped} stopped early{end}" if event.stopped else end
    return (
        f"{event.finished} finished, {event.skipped} skipped{before}, "
        f"{event.failed} failed{impossible}{end}"
    )


def outcome_text(event: ev.Event) -> str | None:
    """The line for events that end or skip something."""
    match event:
        case ev.RunSkipped():
            return f"  skipped {event.name}: {event.reason}"
        case ev.RunAwaited():
            return f"  waiting for {event.name}: {event.reason}"
        case ev.RunRetried():
            at_once = f"{event.jobs} at once" if event.jobs > 1 else "one at a time"
            return f"  trying {event.name} again ({event.reason}); from now on {at_once}"
        case ev.Told():
            return event.text
        case ev.RunMended():
            return f"  {event.name}: {event.text}"
        case ev.RunInterrupted():
            return f"  stopped {event.name} at {event.images:,} images; everything is saved"
        case ev.BudgetRound():
            return (
                f"round {event.number}: {len(event.names)} of {runs_text(event.unfinished)} "
                f"go on, {duration(event.seconds_left)} left"
            )
        case ev.RunStopped() if event.for_good:
            return f"  stopped {event.name} at {event.images:,} images: {event.reason}"
        case ev.MatrixFinished():
            return summary_text(event)
        case _:
            return None


#: Key of the line of the whole matrix, among the names of the runs.
_WHOLE = ""
#: Colours of the words on an event; plain for others.
_STYLES: dict[type, str] = {
    ev.RunRetried: "yellow",
    ev.RunMended: "yellow",
    ev.RunStopped: "yellow",
    ev.RunInterrupted: "red",
}


class LiveScreen:
    """A live line for each run: name, bar, images, loss, images/s, time left.

    With several runs, there is one more line for all of them.
    """

    def __init__(self, console: Console, text: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._text_wanted = text
        self._tasks: dict[str, TaskID] = {}
        self._validation: dict[str, str] = {}
        self._said = Said()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            console=console,
            refresh_per_second=4,
        )
        self._progress.start()

    def show(self, event: ev.Event) -> None:
        """Updates the lines of the runs, or prints above them."""
        match event:
            case ev.MatrixStarted():
                self._progress.print(runs_text(len(event.names)))
                self._print_findings(event.findings)
            case ev.RunStarted():
                self._print_findings(event.findings)
                self._tasks[event.name] = self._progress.add_task(
                    event.name.replace("[", r"\["),
                    total=event.max_images,
                    completed=event.images,
                    text=f"{event.parameters:,} parameters",
                )
            case ev.RunProgress():
                text = f"loss {event.loss:.4g}{self._validation.get(event.name, '')}"
                rate = f"{event.images_per_second:,.0f} images/s"
                self._update(
                    event.name, event.images, f"{text} {rate} {duration(event.seconds_left)} left"
                )
            case ev.MatrixProgress():
                if _WHOLE not in self._tasks:
                    whole = self._progress.add_task("all runs", total=event.total, text="")
                    self._tasks[_WHOLE] = whole
                self._update(_WHOLE, event.done, matrix_text(event))
            case ev.Preparing():
                self.prepare(event.what, event.done, event.total)
            case ev.RunValidated():
                told = f"; {event.forecast}" if event.forecast else ""
                self._validation[event.name] = f" (validation {event.loss:.4g}{told})"
                if event.findings:
                    self._progress.print(warning_text(event), style="yellow", markup=False)
                if event.text and self._text_wanted:
                    self._print_example(event)
            case ev.RunFinished():
                # Finished runs are printed above the live lines, so that a long matrix scrolls.
                self._end(event.name)
                self._progress.print(f"✓ {event.name}  {_finished(event)}", markup=False)
                if event.text:
                    self._print_example(event)
            case ev.RunErred():
                self._end(event.name)
                text = failure_text(event, self._said)
                self._progress.print(text, markup=False, style="red")
            case _:
                if isinstance(event, ev.RunRetried | ev.RunStopped | ev.RunInterrupted):
                    self._end(event.name)
                if words := outcome_text(event):
                    self._progress.print(words, markup=False, style=_STYLES.get(type(event)))

    def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            self._progress.remove_task(task)

    def prepare(self, what: str, done: int, total: int) -> None:
        """Shows a separate line while data is read or rendered."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, text="")
        self._update(what, done, f"{done:,} of {total:,}")
        if done == total:
            self._progress.remove_task(self._tasks.pop(what))

    def _print_findings(self, findings: list[Finding]) -> None:
        for line in self._said.lines(findings):
            self._progress.print(line, style="yellow", markup=False)

    def _print_example(self, event: ev.RunValidated | ev.RunFinished) -> None:
        # Not wrapped or coloured, because the rows of characters form a picture.
        text = example_text(event)
        self._progress.console.print(
            text, markup=False, highlight=False, soft_wrap=True, emoji=False
        )

    def _update(self, name: str, images: int, text: str) -> None:
        self._progress.update(self._tasks[name], completed=images, text=text)

    def close(self) -> None:
        """Stops updating; the last state of each line stays on the screen."""
        self._progress.stop()
