"""``coreproof edit``: changes by hand, as a script of edits or one edit an option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import Replace, StoredArgument, Trust, Written, named
from coreproof.cli.say import say, say_json
from coreproof.errors import InputError

if TYPE_CHECKING:
    from coreproof.editing.edit import Change, Edit, Edited
    from coreproof.model.base import Model


def _list_verbs(wanted: bool) -> None:
    """Prints how each verb is typed and what it does, then stops."""
    if not wanted:
        return
    import coreproof.editing.verbs  # noqa: F401 - registers the verbs
    from coreproof.editing.script import usage
    from coreproof.editing.verbs.registry import VERBS

    for name, function in sorted(VERBS.items()):
        say(usage(name))
        say(f"    {(function.__doc__ or '').splitlines()[0]}")
    raise typer.Exit


def command(
    model: StoredArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[EDITS.toml] OUT", help="A script of edits, and where to write.", show_default=False),
    ] = None,
    written: Written = None,
    do: Annotated[
        list[str] | None,
        typer.Option(help="One edit: 'delete 501', 'connect 493 502', 'set conv1 epsilon 1e-5'. May be repeated."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Write the edits as a script, to be replayed.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write a model that does not run, too.")] = False,
    verbs: Annotated[
        bool, typer.Option("--verbs", help="List the verbs and stop.", is_eager=True, callback=_list_verbs)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overwrite: Replace = False,
    trust: Trust = False,
) -> None:
    """Delete, connect, insert, replace, rename, set ... layers of an ONNX, NeuralNetwork or ML Program model.

    What is not touched stays byte for byte as it was. Every edit shows the layers that it touched, before and after.
    In a package of several functions each is edited, unless one is named: MODEL.mlpackage#FUNCTION.
    """
    from coreproof.editing.edit import edit
    from coreproof.editing.script import parse, read_script, write_script
    from coreproof.model.files.outputs import SCRIPT, check_output, model_kind
    from coreproof.model.load import load

    script, out = _files([*(files or []), *([] if written is None else [written])], bool(do))
    for target, kind in ((out, model_kind(out or "")), (keep, SCRIPT)):
        if target is not None:
            check_output(target, kind, replace=overwrite, inputs=(model, script), in_place=True)
    edits = [*(read_script(script) if script is not None else []), *(parse(line) for line in do or [])]
    loaded = load(model, trust=trust)
    edited = _in_each(loaded, edits, check=not force) or edit(loaded, edits, check=not force)
    if out is not None:
        edited.model.save(out, replace=overwrite)
    if keep is not None:
        write_script(edits, keep, f"coreproof edit {named(model)} {keep.name} OUT", replace=overwrite)
    if as_json:
        say_json([{"edit": str(change.edit), **_as_json(change)} for change in edited.changes])
        return
    for number, change in enumerate(edited.changes, start=1):
        _print(number, change)
    say(f"{out}: {len(edited.changes)} edits" if out is not None else "nothing written: no OUT was given")


def _in_each(model: Model, edits: list[Edit], *, check: bool) -> Edited | None:
    """The edits carried out in every function of a package that has several; None for any other model."""
    from coreproof.cli.functions import each_function
    from coreproof.editing.edit import Edited, edit
    from coreproof.errors import EditError

    changes: list[Change] = []
    names = list(each_function(model))
    for name in names:
        try:
            edited = edit(model.at_function(name), edits, check=check)
        except EditError as error:
            raise error.at(f"function {name}{'' if error.where is None else f', {error.where}'}") from None
        model, changes = edited.model, [*changes, *edited.changes]
    return Edited(model, tuple(changes)) if names else None


def _files(files: list[Path], has_edits: bool) -> tuple[Path | None, Path | None]:
    """The script and the place to write, told apart by the suffix."""
    script = files[0] if files and files[0].suffix == ".toml" else None
    # both are positional, and either may be left out
    rest = files[1:] if script is not None else files
    if len(rest) > 1 or (script is None and not has_edits):
        raise InputError(
            "say what to edit and where to write",
            expected="coreproof edit MODEL EDITS.toml OUT, or coreproof edit MODEL OUT --do 'delete LAYER'",
            found=" ".join(map(str, files)) or "neither a script nor --do",
            fix="`coreproof edit MODEL --verbs` lists the verbs",
        )
    return script, rest[0] if rest else None


def _print(number: int, change: Change) -> None:
    from coreproof.cli.terminal import Line, console, print_whole

    told = _as_json(change)
    shown = console()
    shown.print(Line(f"{number}. {change.edit}", style="bold"))
    for mark, part, style in (("-", "before", "red"), ("+", "after", "green"), ("!", "problems", "yellow")):
        print_whole(shown, [Line(f"   {mark} {line}", style=style) for line in told[part]])


def _as_json(change: Change) -> dict[str, list[str]]:
    from coreproof.cli.show import one_line

    return {
        "before": [*change.features_before, *map(one_line, change.before)],
        "after": [*change.features_after, *map(one_line, change.after)],
        "problems": [str(problem) for problem in change.problems],
    }
