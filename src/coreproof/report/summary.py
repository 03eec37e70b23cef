"""Checks as Markdown: the summary that a pull request shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from coreproof.model.files.atomic import replacing
from coreproof.model.files.outputs import SUMMARY, SUMMARY_MARK
from coreproof.report.checks import Check, Checks, Outcome
from coreproof.visible import visible

_SHOWN = 20
"""Checks of one kind that are listed; a comment on GitHub holds 65,536 characters."""
_SIGNS: Mapping[Outcome, str] = {"passed": "✅", "failed": "❌", "weak": "⚠️", "allowed": "☑️", "skipped": "➖"}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~@-])")


def markdown(checks: Checks) -> str:
    """The verdict, how many checks ended how, the shares, what failed first, and the photos on which models are furthest apart.

    Text of models and files is escaped: a layer's name cannot become a heading, a link or a mention.
    """
    bad = checks.count("failed") + checks.count("weak")
    sign = "❌" if checks.count("failed") else "⚠️" if bad else "✅"
    counts = [f"{checks.count(outcome):,} {outcome}" for outcome in _SIGNS if checks.count(outcome)]
    lines = [SUMMARY_MARK, f"### {sign} {_plain(checks.title)}", "", _plain(checks.verdict), "", ", ".join(counts), ""]
    if checks.shares:
        lines += ["| compared | agree | share | 95% interval from |", "| --- | ---: | ---: | ---: |"]
        # the least first: those are what a reader has to see, and what a long list must not cut off
        worst_first = sorted(checks.shares, key=lambda share: share.value)
        lines += [
            f"| {_plain(s.name)} | {s.agreeing:,} of {s.total:,} {s.unit} | {s.value:.2%} | {s.low:.2%} |"
            for s in worst_first[:_SHOWN]
        ]
        lines += [*_more(len(worst_first)), ""]
    lines += _listed("What fails", (c for c in checks.checks if c.outcome == "failed"))
    lines += _listed("What agrees and proves nothing", (c for c in checks.checks if c.outcome == "weak"))
    lines += _listed("What was let pass", (c for c in checks.checks if c.outcome == "allowed"))
    lines += _listed("Skipped", (c for c in checks.checks if c.outcome == "skipped"))
    if checks.worst:
        lines += [
            "<details><summary>Photos on which two models name different classes, furthest apart first</summary>",
            "",
        ]
        lines += [f"- {_plain(name)}: {', '.join(map(_plain, photos))}" for name, photos in checks.worst.items()]
        lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def save_markdown(checks: Checks, path: str | Path, *, replace: bool = False) -> Path:
    """Writes the summary; OutputExistsError where something else stands there."""
    with replacing(Path(path), SUMMARY, replace=replace) as fresh:
        fresh.write_text(markdown(checks), encoding="utf-8")
    return Path(path)


def _listed(title: str, of: Iterable[Check]) -> list[str]:
    found = list(of)
    if not found:
        return []
    rows = [f"| {_SIGNS[c.outcome]} {_plain(c.name)} | {_plain(c.group)} | {_plain(c.text)} |" for c in found[:_SHOWN]]
    return [f"#### {title}", "", "| what | where | found |", "| --- | --- | --- |", *rows, *_more(len(found)), ""]


def _more(count: int) -> list[str]:
    return ["", f"and {count - _SHOWN:,} more"] if count > _SHOWN else []


def _plain(text: str) -> str:
    """Text of others as Markdown that shows it as it is, in one line."""
    return _MARKUP.sub(r"\\\1", visible(text))
