"""Stop texts in a stream of pieces: held back while one may be coming, cut when it came."""

from collections.abc import Sequence


class StopText:
    """Passes text on until a stop text is complete; `found` says so."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def push(self, piece: str, *, last: bool = False) -> str:
        """Take a piece and return what is certain to be before every stop text.

        last: nothing follows, so nothing needs to be held back.
        """
        if self.found:
            return ""
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)]
        keep = 0 if last else self._begun(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _begun(self, text: str) -> int:
        """Return the length of the longest end of the text that begins a stop text."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
