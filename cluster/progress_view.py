"""Live progress in the terminal: which stage runs, how far it is, how long it will take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL_S = 15.0


@dataclass
class StageProgress:
    """One stage's bar. `advance` moves it, `note` shows a short text such as the last metrics."""

    name: str
    total: int
    view: "ProgressView"
    done: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    _printed: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1) -> None:
        self.done += count
        self.view.refresh(self)

    def note(self, text: str) -> None:
        self.text = text
        self.view.refresh(self)

    def remaining_s(self) -> float:
        """Seconds to go at the pace so far; 0 before the first advance."""
        if not self.done:
            return 0.0
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)


class ProgressView:
    """Bars on a terminal, a line every few seconds elsewhere. One view per run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._bars: Progress | None = None
        self._bar_ids: dict[str, int] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, bars are drawn (on a terminal)."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, refresh_per_second=4) as bars:
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def stage(self, name: str, total: int) -> StageProgress:
        """A bar for `name`; asking again for the same name starts it anew."""
        progress = StageProgress(name, max(total, 1), self)
        if self._bars is not None:
            if name in self._bar_ids:
                self._bars.remove_task(self._bar_ids[name])  # type: ignore[arg-type]
            self._bar_ids[name] = self._bars.add_task(name, total=progress.total, note="")
        else:
            self.say(f"{name}: {total} to do")
        return progress

    def refresh(self, progress: StageProgress) -> None:
        if self._bars is not None:
            self._bars.update(self._bar_ids[progress.name], completed=progress.done, note=progress.text)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        if now - progress._printed >= PLAIN_INTERVAL_S:
            progress._printed = now
            self.say(
                f"{progress.name}: {progress.done}/{progress.total} after {now - progress.started:.0f} s, "
                f"about {progress.remaining_s():.0f} s left  {progress.text}"
            )
