"""About how many events lie between two messages of a stream, whose numbers count messages only."""

import bisect

_POINTS_MAX = 8192


class EventTally:
    """Knows the events of the messages it was told of, and takes the mean of them for the others.

    A rising line through points (sequence, events through it); asked between two points it interpolates. Memory is
    bounded: with too many points every second one goes, and what was exact becomes a mean of two.
    """

    def __init__(self, sequence: int) -> None:
        """Counts from behind this sequence."""
        self._sequences = [sequence]
        self._events = [0.0]
        self._messages_known = 0
        self._events_known = 0

    @property
    def last(self) -> int:
        """The last sequence told."""
        return self._sequences[-1]

    def told(self, sequence: int, rows: int) -> None:
        """This message holds so many events. What lies before the last one told adds to the mean only."""
        self._messages_known += 1
        self._events_known += rows
        skipped = sequence - self._sequences[-1] - 1
        if skipped < 0:
            return
        self._put(sequence, self._events[-1] + skipped * self._mean() + rows)

    def reached(self, sequence: int) -> None:
        """The stream goes this far; how many events its last messages hold is not known."""
        skipped = sequence - self._sequences[-1]
        if skipped > 0:
            self._put(sequence, self._events[-1] + skipped * self._mean())

    def forget_through(self, sequence: int) -> None:
        """Nobody will ask about anything before this sequence."""
        behind = bisect.bisect_right(self._sequences, sequence) - 1
        if behind > 0:
            del self._sequences[:behind]
            del self._events[:behind]

    def between(self, after: int, through: int) -> int:
        """Events in the messages after+1 … through."""
        if through <= after:
            return 0
        return max(0, round(self._through(through) - self._through(after)))

    def _mean(self) -> float:
        return self._events_known / self._messages_known if self._messages_known else 1.0

    def _through(self, sequence: int) -> float:
        """Events in all messages up to this one, on the scale of the points."""
        right = bisect.bisect_left(self._sequences, sequence)
        if right == len(self._sequences):
            return self._events[-1] + (sequence - self._sequences[-1]) * self._mean()
        if self._sequences[right] == sequence:
            return self._events[right]
        if right == 0:
            return self._events[0] - (self._sequences[0] - sequence) * self._mean()
        low, high = self._sequences[right - 1], self._sequences[right]
        share = (sequence - low) / (high - low)
        return self._events[right - 1] + share * (self._events[right] - self._events[right - 1])

    def _put(self, sequence: int, events: float) -> None:
        self._sequences.append(sequence)
        self._events.append(events)
        if len(self._sequences) > _POINTS_MAX:
            self._sequences = [*self._sequences[:-1:2], sequence]
            self._events = [*self._events[:-1:2], events]
