"""What the pool knows about one engine, and which events change it: pure, no clock, no Ray.

HEALTHY -MISSED-> SUSPECT -MISSED (patience)-> DEAD -RESTART-> RESTARTING -STARTED-> STALE -LOADED-> HEALTHY
   any of these -DIED-> DEAD;  SUSPECT -ANSWERED-> HEALTHY;  STALE -GONE-> BEHIND -LOADED-> HEALTHY
"""

from dataclasses import dataclass
from enum import Enum


class Health(Enum):
    """One sentence per state; only HEALTHY and SUSPECT engines are given requests."""

    HEALTHY = "answers, and holds the newest weights"
    SUSPECT = "missed a ping; still serves, and is dead after a few more"
    DEAD = "its process is gone, broken or does not answer; waits to be restarted"
    RESTARTING = "a new process loads the model"
    STALE = "is up, but does not hold the newest weights yet; refuses requests"
    BEHIND = "is up, but nobody holds the newest weights any more; refuses requests until the next sync"


class Event(Enum):
    """What the pool observes or does."""

    ANSWERED = "answered a ping"
    MISSED = "did not answer a ping in time"
    DIED = "a call showed that its process or its engine core is gone"
    RESTART = "the pool begins to restart it"
    STARTED = "its new process has loaded the model"
    GONE = "the newest weights are not to be had again: the learner trains on"
    LOADED = "took the newest weights"


_NEXT = {
    (Health.SUSPECT, Event.ANSWERED): Health.HEALTHY,
    (Health.DEAD, Event.RESTART): Health.RESTARTING,
    (Health.RESTARTING, Event.STARTED): Health.STALE,
    (Health.STALE, Event.LOADED): Health.HEALTHY,
    (Health.STALE, Event.GONE): Health.BEHIND,
    (Health.BEHIND, Event.LOADED): Health.HEALTHY,
}


@dataclass
class EngineHealth:
    """The state of one engine.

    >>> health = EngineHealth(patience=2)
    >>> [health.on(Event.MISSED).name, health.on(Event.MISSED).name, health.on(Event.RESTART).name]
    ['SUSPECT', 'DEAD', 'RESTARTING']
    """

    patience: int = 3
    """Pings missed in a row until the engine counts as dead."""
    state: Health = Health.HEALTHY
    missed: int = 0
    """Pings missed in a row."""
    restarts: int = 0
    """How often it was restarted."""

    def on(self, event: Event) -> Health:
        """The state after `event`. Events that say nothing new in a state (an answer of a healthy engine) leave it."""
        if event is Event.MISSED and self.state in (Health.HEALTHY, Health.SUSPECT):
            self.missed += 1
            self.state = Health.DEAD if self.missed >= self.patience else Health.SUSPECT
        elif event is Event.DIED:
            self.state = Health.DEAD
        else:
            self.state = _NEXT.get((self.state, event), self.state)
        if event in (Event.ANSWERED, Event.RESTART):
            self.missed = 0
        self.restarts += event is Event.RESTART and self.state is Health.RESTARTING
        return self.state

    @property
    def serves(self) -> bool:
        """Whether requests may go to it."""
        return self.state in (Health.HEALTHY, Health.SUSPECT)

    @property
    def takes_weights(self) -> bool:
        """Whether a weight update goes to it."""
        return self.serves or self.state is Health.BEHIND
