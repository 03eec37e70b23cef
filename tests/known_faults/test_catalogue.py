"""The catalogue as a whole: every record cites public threads, and docs/doctor.md lists what it holds.

python -m tests.known_faults.test_catalogue        writes the table of docs/doctor.md anew
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coreproof.known_faults.catalogue import FAULTS, table
from coreproof.known_faults.record import KnownFault

PAGE = Path(__file__).parent.parent.parent / "docs" / "doctor.md"
BEGIN, END = "<!-- known faults: from coreproof.known_faults.catalogue -->\n", "<!-- end of known faults -->\n"


def test_no_two_faults_share_a_name() -> None:
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) > 12


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.id))
def test_a_record_is_whole(fault: KnownFault) -> None:
    assert fault.threads
    assert all(re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", t) for t in fault.threads)
    assert fault.units
    assert fault.until is None or fault.until > fault.since
    assert (fault.since >= 27) == (fault.framework == "coreai")
    for words in (fault.seen, fault.seen_on, fault.pattern, fault.workaround):
        assert words
        assert "|" not in re.sub(r"-\|x\||\(-\|x\|\)", "", words)


def test_a_fault_that_is_gone_concerns_older_systems_alone() -> None:
    gone = KnownFault(**{**vars(FAULTS[0]), "since": 15, "until": 17})
    assert [gone.concerns(ios) for ios in (15, 16, 17, 18)] == [True, True, False, False]
    assert FAULTS[0].until is None
    assert FAULTS[0].concerns(99)


def test_the_page_lists_them() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == table(), "python -m tests.known_faults.test_catalogue writes it anew"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
