"""The samples of a comparison; a draw to which the reference has no finite answer is drawn anew, or left out, as it is run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import Feeds
from coreproof.model.progress import Progress
from coreproof.verification.row import Row
from coreproof.verification.run import VerificationRun


class Samples:
    """What two models are fed, and what became of each draw.

    A draw may hold what the reference has no finite answer to: a zero that it divides by. The run that is compared shows it, so
    that no draw is run twice to find out: it is then drawn again without zeros, and left out if that is no better. What was not
    drawn stays as it is.
    """

    def __init__(self, fed: Feeds, unfit: Mapping[int, str] | None = None) -> None:
        self.fed = fed
        self.pairs = list(fed.pairs)
        # draws that cannot be held against each other, and why
        self.unfit = unfit or {}
        self.left_out: list[int] = list(self.unfit)
        self._redrawn: set[int] = set()

    @property
    def said(self) -> str:
        """In words, where the samples came from."""
        draft = self.fed.draft
        others = sorted(number for number in self.left_out if number not in self.unfit)
        said = self.fed.said if draft is None or not others else draft.said(others)
        return said + "".join(f"; {why}" for why in dict.fromkeys(self.unfit.values()))

    def first(self, prepare: Callable[[], VerificationRun]) -> VerificationRun:
        """The comparison made ready, which may run the first sample: on one that the reference has a finite answer to, if any."""
        try:
            run = prepare()
        except CoreproofError:
            if self.fed.draft is None:
                raise
        else:
            if not run.unanswered or self.fed.draft is None:
                return run
        # what was made ready rests on the first sample, so it is made ready anew
        self._redraw(0)
        return prepare()

    def judged(
        self, run: VerificationRun, numbers: list[int], progress: Progress, before: Sequence[Row] = ()
    ) -> tuple[list[int], tuple[Row, ...]]:
        """The samples of these numbers that the reference answers, and every pair of values judged on them.

        ``before`` are the rows of earlier samples, as in ``VerificationRun.compare``.
        """
        numbers = [number for number in numbers if number not in self.left_out]
        while numbers:
            run.feed([self.pairs[number] for number in numbers], agreed_from=0 if before else None)
            held = run.contents()
            try:
                rows = run.compare(progress, before)
            except CoreproofError:
                if self.fed.draft is None or not run.unanswered:
                    raise
            else:
                if self.fed.draft is None or not run.unanswered:
                    return numbers, rows
            # what these samples held must not count twice
            run.forget_since(held)
            for number in [numbers[at] for at in sorted(run.unanswered)]:
                if not self._redraw(number):
                    self.left_out.append(number)
                    numbers.remove(number)
        return [], ()

    def feed_all(self, run: VerificationRun, beside: Collection[int], *, agree: bool) -> None:
        """Feeds every sample that is compared, but for those ``beside``; ``agree``: the models agree on them."""
        kept = [at for at in range(len(self.pairs)) if at not in (*self.left_out, *beside)]
        run.feed([self.pairs[at] for at in kept], agreed_from=kept.count(0) if agree else None)

    def judged_as_it_is(self, run: VerificationRun, progress: Progress) -> tuple[list[int], tuple[Row, ...]]:
        """The first draw as it was drawn, whatever the reference answers."""
        self.left_out.clear()
        self.pairs[0] = self.fed.pairs[0]
        run.feed(self.pairs[:1])
        return [0], run.compare(progress)

    def redrawn(self, numbers: Collection[int]) -> bool:
        """Draws samples again without zeros; whether any of them was not yet."""
        return bool([number for number in numbers if self._redraw(number)])

    def _redraw(self, number: int) -> bool:
        """Draws a sample again without zeros; False where that was done already."""
        if self.fed.draft is None or number in self._redrawn:
            return False
        self._redrawn.add(number)
        self.pairs[number] = self.fed.draft.again(number)
        return True
