"""What coremltools says while it builds stays off the terminal and out of the log; what others say does not."""

from __future__ import annotations

import logging

import pytest

from coreproof.conversion.onnx_to_coreml.quiet import quiet


def test_coremltools_alone_is_silent(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        print("Running MIL passes")
        logging.getLogger("coremltools.converters").warning("a warning of coremltools")
        logging.getLogger("an.application").warning("a warning of the caller's")
    logging.getLogger("coremltools.converters").warning("afterwards")
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["a warning of the caller's", "afterwards"]
