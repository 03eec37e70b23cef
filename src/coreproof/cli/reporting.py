"""What CI is told: files with test results and a summary, and whether as much agrees as was required."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreproof.cli.options import Reporting
from coreproof.cli.say import say

if TYPE_CHECKING:
    from coreproof.report.checks import Checks, Requirement


def check_report_places(reporting: Reporting, *, replace: bool) -> None:
    """Refuses what could not be written before the work, not after it. Raises OutputExistsError."""
    from coreproof.model.files.outputs import JUNIT, SUMMARY, check_output

    for target, kind in ((reporting.junit, JUNIT), (reporting.markdown, SUMMARY)):
        if target is not None:
            check_output(target, kind, replace=replace)


def requirement(reporting: Reporting) -> Requirement:
    """How much has to agree."""
    from coreproof.report.checks import Requirement

    return Requirement(reporting.require, reporting.require_lower)


def tell_ci(reporting: Reporting, checks: Checks, *, replace: bool, allow_weak: bool = False) -> bool:
    """Writes the files, and says on standard error what is missed; whether all that was required agrees."""
    from coreproof.report.junit import save_junit
    from coreproof.report.summary import save_markdown

    asked = requirement(reporting)
    whole = checks.required(asked, allow_weak=allow_weak)
    if reporting.junit is not None:
        save_junit(whole, reporting.junit, replace=replace)
    if reporting.markdown is not None:
        save_markdown(whole, reporting.markdown, replace=replace)
    misses = asked.misses(checks.shares)
    # standard error: standard output may be JSON that another program reads
    say(*(f"not enough agrees: {miss}" for miss in misses), err=True)
    return not misses
