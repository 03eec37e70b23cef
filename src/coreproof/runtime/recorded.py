"""A saved run answers as if the model ran: the recorded values, for the recorded inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreproof.errors import RunError
from coreproof.model.recording import Recording
from coreproof.runtime.session import Session, State, Values, read_inputs


class RecordedSession(Session):
    """Reads from the file what ``run`` asks for; nothing is computed."""

    recording: Recording

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.signature = recording.signature
        self.engine = f"{recording.engine}, saved"

    @property
    def tappable(self) -> frozenset[str]:
        return frozenset(self.recording.names)

    def run(self, inputs: Mapping[str, object], taps: Sequence[str] = (), state: State | None = None) -> Values:
        self._refuse_state(state)
        where = str(self.recording.path)
        index = self.recording.find(read_inputs(self.signature, inputs, where))
        recorded = self.recording.names
        missing = [name for name in taps if name not in recorded]
        if missing:
            raise RunError("the saved run does not hold these values", where=where, found=", ".join(missing))
        outputs = [f.name for f in self.signature.outputs if f.name in recorded]
        return {name: self.recording.value(name, index) for name in dict.fromkeys((*outputs, *taps))}
