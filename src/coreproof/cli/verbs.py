"""The verbs by name: what the command line runs, and what agents are offered."""

from __future__ import annotations

from collections.abc import Callable

from coreproof.cli import (
    advise,
    check,
    compare,
    convert,
    diff,
    doctor,
    edit,
    init,
    migrate,
    predict,
    proofs,
    prove,
    show,
    shrink,
    stages,
    verify,
    view,
)
from coreproof.cli import app as app_

VERBS: dict[str, Callable[..., None]] = {
    "init": init.command,
    "prove": prove.command,
    "check": check.command,
    "advise": advise.command,
    "convert": convert.command,
    "migrate": migrate.command,
    "show": show.command,
    "predict": predict.command,
    "verify": verify.command,
    "doctor": doctor.command,
    "edit": edit.command,
    "split": stages.split,
    "join": stages.join,
    "upgrade": stages.upgrade,
    "diff": diff.command,
    "shrink": shrink.command,
    "compare": compare.command,
    "check-proof": proofs.check,
    "compare-proofs": proofs.compare,
    "app": app_.command,
    "view": view.command,
}
