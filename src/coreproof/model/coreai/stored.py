"""A program that was made in memory as a model: written first, and read back, so that all that is said of it is of the files."""

from __future__ import annotations

from pathlib import Path

from coreproof.errors import UnreadableModelError
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import StoredProgram
from coreproof.model.coreai.read import read_program
from coreproof.model.coreai.write import write_program
from coreproof.model.files.scratch import TemporaryFolder


def stored_model(program: StoredProgram, *, name: str) -> CoreAIModel:
    """The model of a program that lies in a folder of this run's own until it is saved.

    Raises ConversionError where Apple's package does not take it, and MissingDependencyError without that.
    """
    scratch = TemporaryFolder()
    try:
        place = Path(scratch.name) / "model.aimodel"
        return CoreAIModel(_written_and_read(program, place, name), name=name, files=place, keep_alive=scratch)
    except BaseException:
        scratch.cleanup()
        raise


def _written_and_read(program: StoredProgram, place: Path, name: str) -> StoredProgram:
    child = write_program(program, place, name)
    try:
        return read_program(place, child)
    except UnreadableModelError:
        # what Apple's package left in the memory of the process that wrote says nothing of the files
        return read_program(place)
