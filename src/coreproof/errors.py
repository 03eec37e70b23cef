"""Every error a user can meet: one class a kind, all under CoreproofError.

CoreproofError
 ├─ UnreadableModelError        the file is not what its name says, is cut short, or parts are missing
 ├─ UnsafeModelError            the file asks for what coreproof refuses (paths outside its folder, pickles)
 ├─ UnsupportedOperatorsError   operators that no lowering exists for, all of them at once
 ├─ ConversionError             a supported operator in a form that the target cannot express
 ├─ InputError                  what was fed to a model does not fit the model's inputs
 ├─ RunError                    the engine refused or failed while running
 │   ├─ IntegerRangeError        a whole number left the 32 bits in which Core ML computes it
 │   └─ UnsupportedModelError    a sound model of a kind that the engine does not run yet
 ├─ PhotoError                  a picture that cannot be read, a folder without pictures
 ├─ EditError                   an edit that names what is not there, or leaves the model without sense
 ├─ LineupError                 a line-up file that names models or feedings that make no sense
 ├─ StoreError                  a store of predictions that cannot be read or written, as on a full disk
 ├─ TooLargeError               a size that a file declares, or a value that it makes, beyond the memory budget
 ├─ OutputExistsError           something stands where the output goes that this verb would not have written
 └─ MissingDependencyError      an optional package that this verb needs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Self

from coreproof.visible import visible

_TOLD = 8
"""Problems that one error names; of a file with hundreds these say enough."""


class CoreproofError(Exception):
    """A problem that the user can act on.

    The message always has the same shape: what is wrong, where (file, node or layer), what was
    expected, what was found, and what to do. Parts that are not known are left out. ``problems`` are the errors that it
    tells at once, where it tells several.

    Example:
        >>> try:
        ...     cp.load("missing.onnx")
        ... except cp.CoreproofError as error:
        ...     print(error.where)
        missing.onnx

    """

    problems: tuple[CoreproofError, ...] = ()

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: object | None = None,
        found: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem = problem
        self.where = where
        self.expected = expected
        self.found = found
        self.fix = fix
        super().__init__(_message(self))

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whole, whatever their class takes."""
        return _restored, (type(self), self.args, vars(self))

    @classmethod
    def of_file(cls, problem: str, where: object) -> Callable[[str], Self]:
        """Makes the error of a file from what is found wrong in it."""
        return lambda found: cls(problem, where=str(where), found=found)

    @classmethod
    def of_newer(cls, what: str, where: object, newest: str, version: int, fix: str = "update coreproof") -> Self:
        """Something that a later coreproof, or coremltools, wrote."""
        problem, known = f"the {what} is newer than this coreproof", f"{newest} or older"
        return cls(problem, where=str(where), expected=known, found=f"version {version}", fix=fix)

    def at(self, where: str) -> Self:
        """The same error, said of another place, for whoever knows the place better."""
        moved = copy(self)
        moved.where = where
        moved.args = (_message(moved),)
        return moved


def first_few(problems: Sequence[object]) -> str:
    """Problems for one error: the first of them, and how many more there are. Nobody reads the thousand of a damaged file."""
    more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
    return "; ".join([*map(str, problems[:_TOLD]), *more])


def _message(error: CoreproofError) -> str:
    lines = [_printable(error.problem)]
    for label, part in (
        ("where", error.where),
        ("expected", error.expected),
        ("found", error.found),
        ("what to do", error.fix),
    ):
        if part is not None:
            lines.append(f"  {label}: {_printable(part)}")
    return "\n".join(lines)


def _printable(part: object) -> str:
    """A part of a message: names in it cannot command a terminal, and its own lines are set in, so none poses as a part."""
    return visible(part, keep="\n").replace("\n", "\n    ")


def _restored(kind: type[CoreproofError], arguments: tuple[object, ...], parts: Mapping[str, object]) -> CoreproofError:
    error = kind.__new__(kind)
    error.args = arguments
    vars(error).update(parts)
    return error


class UnreadableModelError(CoreproofError):
    """A model file that is missing, damaged, or not of the kind its name promises."""


class UnsafeModelError(CoreproofError):
    """A model file that asks for something coreproof does not do unless it is told to."""


class UnsupportedOperatorsError(CoreproofError):
    """Operators (or layers) that no lowering exists for; ``operators`` names all of them, with their nodes."""

    def __init__(
        self,
        source: str,
        operators: Iterable[tuple[str, str]],
        target: str,
        *,
        supported: Iterable[str] = (),
        fix: str | None = None,
    ) -> None:
        pairs = list(operators)
        by_operator: dict[str, list[str]] = {}
        for operator, node in pairs:
            by_operator.setdefault(operator, []).append(node)
        self.operators = {name: tuple(nodes) for name, nodes in by_operator.items()}
        listed = "; ".join(
            f"{name} ({len(nodes)}x, first at {nodes[0]!r})" for name, nodes in sorted(by_operator.items())
        )
        super().__init__(
            f"{len(by_operator)} operator(s) of {source} cannot be lowered to {target}: {listed}",
            expected=", ".join(supported) or None,
            fix=fix
            or "coreproof check MODEL says what would do; or cut the part out of the model: coreproof edit, verb extract",
        )


class ConversionError(CoreproofError):
    """An operator that is known, in a form that the target format cannot express."""


class InputError(CoreproofError, ValueError):
    """Values fed to a model that do not fit its declared inputs."""


class RunError(CoreproofError, RuntimeError):
    """The engine refused the model, or failed while running it."""


class IntegerRangeError(RunError):
    """A whole number left the 32 bits in which Core ML computes it; ``value`` is what could not be made for that reason."""

    value = ""


class UnsupportedModelError(RunError):
    """A model of a kind that the engine does not run yet; nothing is said against the model itself."""


class PhotoError(CoreproofError):
    """A picture that cannot be read, or a folder in which there is none."""


class EditError(CoreproofError, ValueError):
    """An edit that names something which is not there, or would leave the model without sense."""


class LineupError(CoreproofError):
    """A line-up (the models to compare and how each is fed) that cannot be carried out."""


class StoreError(CoreproofError):
    """A store of predictions that cannot be read or written."""


class TooLargeError(CoreproofError):
    """A size that a file declares, or a value that its model makes, beyond what coreproof may take: see ``model.budget``."""


class OutputExistsError(CoreproofError):
    """Something stands at the output's place that this verb would not have written; ``--replace`` overrides."""


class MissingDependencyError(CoreproofError, ImportError):
    """An optional package that this verb needs; the message holds the line that installs it."""
