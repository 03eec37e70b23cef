"""PyTorch models out of a user's own code, or of a pickle that a user trusts: called, looked at, and made a TorchModel."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreproof.errors import (
    CoreproofError,
    InputError,
    MissingDependencyError,
    UnreadableModelError,
    UnsafeModelError,
)
from coreproof.model.feeding import Source
from coreproof.model.named.kinds import PREFIXES
from coreproof.model.torch.model import TorchModel, import_torch, import_torchvision, quiet
from coreproof.model.torch.nested import flattened, held_fixed, is_flat, named_leaves
from coreproof.model.torch.script_view import is_scripted
from coreproof.model.torch.scripted import needs_example, read_script, said_example
from coreproof.model.torch.user_code import importable_from_here, kind_of, said_by, user_code, users_line

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

_RETURNS = "a module with example inputs: (module, inputs), or coreproof.Source(module, (inputs,), ...)"
_STATE = (
    "it holds weights and no network: load it into one with torchvision:NAME?weights=FILE, or in a function of yours "
    "(net.load_state_dict(torch.load(FILE, weights_only=True)); return net, inputs)"
)
_SCRIPT = "call it in the forward of a module"


def load_callable(reference: str) -> TorchModel:
    """``module.path:callable`` or ``file.py:callable``: gives a module, (module, example_inputs) or a Source.

    Raises UnreadableModelError where there is no such function, InputError for what it raises or returns; both show the
    user's own line.
    """
    import_torch()
    with suppress(MissingDependencyError):
        import_torchvision()
    module_name, _, attribute = reference.rpartition(":") if reference.count(":") == 1 else reference.partition(":")
    module = _imported(module_name, reference)
    # vars first: a module's own __getattr__ would be the user's code
    factory = vars(module).get(attribute)
    if factory is None and attribute.isidentifier():
        with user_code(f"{module_name!r} raises as it is asked for {attribute!r}", where=reference):
            factory = getattr(module, attribute, None)
    if not callable(factory):
        # what it imported is not meant
        own = [
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == vars(module)["__name__"]
        ]
        near = get_close_matches(attribute, own, 1)
        raise UnreadableModelError(
            f"{module_name!r} has no callable {attribute!r}",
            where=reference,
            found=", ".join(own) or "no function of its own",
            fix=f"did you mean {module_name}:{near[0]}?" if near else None,
        )
    # "make" says nothing of what is made, and stands in every title
    name = Path(module_name).stem.rsplit(".", 1)[-1] if attribute in _NAMELESS else attribute
    if _is_module(factory):
        return from_object(factory, name=attribute)
    # a class is callable too, and would be called without the arguments that it needs
    if isinstance(factory, type):
        raise InputError(
            f"{attribute!r} is a class, not a function that makes a model",
            where=reference,
            expected=f"a function that returns {_RETURNS}",
            found=kind_of(factory),
            fix=f"add a function: def model(): return {attribute}(...), torch.randn(1, 3, 224, 224)",
        )
    return from_object(_called(factory, reference), name=name)


def _imported(name: str, reference: str) -> object:
    try:
        with user_code(f"{name!r} cannot be imported", where=reference, error=UnreadableModelError), quiet():
            return _import_user_module(name)
    except CoreproofError as error:
        cause = error.__cause__
        missing = isinstance(cause, ModuleNotFoundError) and cause.name in (name, name.partition(".")[0])
        if missing and (near := get_close_matches(name, PREFIXES, 1)):
            fix = f"did you mean {near[0]}{reference.removeprefix(name)}?"
            raise UnreadableModelError(f"cannot import {name!r}", where=reference, found=str(cause), fix=fix) from None
        if missing or (isinstance(cause, ImportError) and users_line(cause) is None) or isinstance(cause, _NoFile):
            raise UnreadableModelError(
                f"cannot import {name!r}",
                where=reference,
                found=str(cause),
                fix="run coreproof in the folder from which Python can import it, or give the path of a .py file",
            ) from None
        raise


class _NoFile(Exception):
    """There is no Python file of that name."""


def _import_user_module(name: str) -> object:
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise _NoFile(f"no file {name}")
        module = importlib.util.module_from_spec(spec)
        # a pickle or a dataclass in it looks for its module there
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
        return module
    if not all(part.isidentifier() for part in name.split(".")):
        raise _NoFile(f"{name!r} is no name of a module")
    with importable_from_here():
        return importlib.import_module(name)


def _called(factory: Callable[..., object], reference: str) -> object:
    try:
        needed = [
            p.name
            for p in inspect.signature(factory).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ]
    except (TypeError, ValueError):  # some functions of native code do not say
        needed = []
    if needed:
        raise InputError(
            "the function cannot be called: it takes arguments",
            where=reference,
            expected="a function without arguments",
            found=", ".join(needed),
            fix="write one that calls it: def model(): return ...",
        )
    with user_code(f"{reference.rpartition(':')[2]!r} raises as it is called", where=reference), quiet():
        made = factory()
    if made is None or isinstance(made, type):
        raise InputError(
            "the function returns no model",
            where=_defined(factory) or reference,
            expected=_RETURNS,
            found=kind_of(made),
            fix="return the module and its inputs" if made is None else f"return {made.__name__}(...), inputs",
        )
    return made


def _defined(factory: object) -> str | None:
    code = getattr(factory, "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}, {code.co_name}"


# objects


def from_object(thing: object, name: str = "model") -> TorchModel:
    """A TorchModel from a Source, a (module, example_inputs) pair, or a module that takes [1, 3, 224, 224].

    How a module is fed with pictures is known only where a Source says so.

    Raises InputError for everything else, saying what it is.
    """
    torch = import_torch()
    if isinstance(thing, Source):
        more = {key: getattr(thing, key) for key in ("feeding", "labels", "notes", "untrained")}
        return _model(thing.module, thing.example_inputs, name, **more)
    if isinstance(thing, torch.export.ExportedProgram):
        return _exported(thing, name)
    if isinstance(thing, tuple):
        if len(thing) != 2:
            raise InputError("this tuple is no model", where=name, expected=_RETURNS, found=f"{len(thing)} parts")
        return _model(*thing, name)
    module = _require_module(thing, name)
    first = next((p for p in module.parameters() if p.ndim >= 2), None)
    # its first weights are a convolution over three channels: it sees pictures
    if first is not None and first.ndim == 4 and first.shape[1] == 3:
        note = "example input taken to be [1, 3, 224, 224]; for another give (module, example_inputs)"
        return _model(module, (torch.randn(1, 3, 224, 224),), name, notes=(note,))
    if is_scripted(module):
        raise needs_example(module, name)
    raise InputError(
        "the inputs of this PyTorch module are not known",
        where=name,
        expected="(module, example_inputs), or coreproof.Source(module, example_inputs, ...)",
        found=type(thing).__name__,
        fix="return example inputs together with the module",
    )


def _is_module(thing: object) -> bool:
    return isinstance(thing, import_torch().nn.Module)


def _require_module(thing: object, name: str) -> torch.nn.Module:
    """The object itself. Raises InputError for what is no torch.nn.Module that can be exported, saying what it is."""
    torch = import_torch()
    if isinstance(thing, torch.jit.ScriptFunction):
        raise InputError("this is a TorchScript function, and no module", where=name, fix=_SCRIPT)
    if isinstance(thing, Mapping):
        weights = bool(thing) and all(isinstance(v, torch.Tensor) for v in thing.values())
        raise InputError(
            "this is a state dict, not a model" if weights else "this is a dictionary, not a model",
            where=name,
            expected=_RETURNS,
            found=f"{len(thing)} {'tensors' if weights else 'entries'}: {', '.join(map(str, list(thing)[:4]))}",
            fix=_STATE if weights else "if one entry is a state dict: load it into a network, and give that",
        )
    if not _is_module(thing):
        fix = f"return {thing.__name__}(...), with inputs" if isinstance(thing, type) else None
        raise InputError("this is no PyTorch model", where=name, expected=_RETURNS, found=kind_of(thing), fix=fix)
    return thing


_NAMELESS = frozenset(
    {"model", "make", "make_model", "build", "build_model", "create", "create_model", "get", "get_model"}
    | {"load", "load_model", "main"}
)
"""What functions are called that make a model: it is called as the file then."""


def _model(thing: object, inputs: object, name: str, **more: Any) -> TorchModel:
    """A module and its inputs after a look at both; half-precision weights are widened, with a note."""
    torch = import_torch()
    module = _require_module(thing, name)
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    given = () if named else tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    _require_tensors(given, named, name)
    if not is_flat(given, named):
        if (fixed := held_fixed(module, given, named)) is not None:
            more["notes"] = (*more.get("notes", ()), f"as in the example at every call: {fixed}")
        module, given = flattened(module, given, named)
    held = [*module.parameters(), *module.buffers()]
    elsewhere = sorted({str(t.device) for t in (*held, *given) if t.device.type != "cpu"})
    if elsewhere:
        raise InputError(
            "the model's tensors are not in this machine's main memory",
            where=name,
            expected="the device cpu",
            found=", ".join(elsewhere),
            fix="return module.cpu() and inputs on the cpu",
        )
    # PyTorch computes half precision on the CPU in other ways than anything that is compared with it
    halves = sorted({str(t.dtype).removeprefix("torch.") for t in held if t.dtype in (torch.float16, torch.bfloat16)})
    if halves:
        module, given = _widened(module, given, name)
        note = (
            f"{' and '.join(halves)} weights widened to float32: their values are the same, the arithmetic is float32"
        )
        more["notes"] = (*more.get("notes", ()), note)
    return TorchModel(module, given, name=name, **more)


def _require_tensors(given: tuple[object, ...], named: Mapping[str, object], where: str) -> None:
    """Raises InputError for what is neither a tensor, nor holds any, nor is a flag, a number, a text or None beside them."""
    torch = import_torch()
    found = [(f"input {i}", value) for i, value in enumerate(given)] + [(f"input {n!r}", v) for n, v in named.items()]
    leaves = [(top, leaf) for top, value in found for _, leaf in named_leaves(value, "") or [("", value)]]
    fixed = (torch.Tensor, bool, int, float, str, type(None))
    wrong = [f"{top} is {kind_of(leaf)}" for top, leaf in leaves if not isinstance(leaf, fixed)]
    if wrong or not any(isinstance(leaf, torch.Tensor) for _, leaf in leaves):
        raise InputError(
            "the example inputs are not tensors",
            where=where,
            expected="tensors for the arguments of forward, or tuples, lists and dictionaries of them",
            found="; ".join(wrong) or "none",
            fix="give torch tensors: torch.from_numpy(array), torch.tensor(number)",
        )


def _exported(program: ExportedProgram, name: str) -> TorchModel:
    arguments, keywords = program.example_inputs or ((), {})
    module = program.module()
    if arguments and keywords:
        module, arguments = flattened(module, arguments, keywords)
    return _model(module, arguments or keywords, name)


def _widened(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> tuple[object, tuple[object, ...]]:
    """A copy with float32 in the place of half precision, which the exporter and the CPU do not compute alike."""
    torch = import_torch()
    halves = (torch.float16, torch.bfloat16)
    with user_code("a copy of the half-precision model cannot be made", where=name, fix="return module.float()"):
        wide = copy.deepcopy(module)
        wide._apply(lambda tensor: tensor.float() if tensor.dtype in halves else tensor)
    return wide, tuple(t.float() if t.dtype in halves else t for t in inputs)


# pickles


def refuse_pickle(path: Path) -> None:
    """Raises UnsafeModelError: a .pt or .pth file is a pickle, and loading one executes what it says.

    A TorchScript program and a state dict are told apart without reading them as a pickle, because no trust helps there.
    """
    _refuse_other_kinds(path)
    raise UnsafeModelError(
        "a pickled PyTorch model is not loaded: reading it would execute code from the file",
        where=str(path),
        expected="a state dict through torchvision:NAME?weights=FILE, a module.path:callable, or a .pt2 program: that is "
        "checked as it is opened, and refused if it holds pickled objects, compiled code or foreign operators",
        fix="export it with torch.export.save; or pass --trust (in Python: trust=True) if you know who made it",
    )


def _refuse_other_kinds(path: Path) -> None:
    from coreproof.model.files.arrays import DAMAGE
    from coreproof.model.torch.pickled import only_tensors_by_name

    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch's files are zip archives since 1.6; constants.pkl stands in those of TorchScript alone
            last = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
            script = "constants.pkl" in last
            weights = not script and only_tensors_by_name(archive)
    except DAMAGE:  # whatever else it is, a pickle among others
        return
    if script:
        raise UnsafeModelError(
            "a TorchScript program is not loaded: reading it would run what its author wrote",
            where=str(path),
            expected="a .pt2 program of torch.export.save, or ONNX: both are data",
            fix="pass --trust (in Python: trust=True) if you know who made it; and say what it is fed: FILE?x=1x3x224x224",
        )
    if weights:
        raise UnreadableModelError("this is a state dict, not a model", where=str(path), fix=_STATE)


def load_script(path: Path, query: str | None, example: object = None) -> TorchModel:
    """A TorchScript file that the user trusts, with the example inputs that ``query`` says, or those of ``example``.

    Without either it is a network of pictures where its first weights are a convolution over three channels. Raises InputError
    where nobody says what it is fed, UnreadableModelError for a damaged file.
    """
    module = read_script(path)
    if query is not None:
        example = said_example(query, module, str(path))
    if example is None:
        try:
            model = from_object(module, name=path.stem)
        except InputError:
            raise needs_example(module, str(path)) from None
    else:
        inputs = tuple(example) if isinstance(example, list) else example
        inputs = inputs if isinstance(inputs, Mapping | tuple) else (inputs,)
        model = from_object(Source(module, inputs), name=path.stem)
    model.path = path
    return model


def load_pickle(path: Path) -> TorchModel:
    """A whole pickled module, only for a user who trusts the file; its classes are imported from the current folder too."""
    torch = import_torch()
    with suppress(MissingDependencyError):
        import_torchvision()
    _refuse_other_kinds(path)
    try:
        with importable_from_here(), quiet():
            # map_location: tensors of a GPU's memory come into this machine's
            thing = torch.load(path, weights_only=False, map_location="cpu")
    # a pickle may raise anything, but Ctrl-C is the user's
    except KeyboardInterrupt:
        raise
    except (ImportError, AttributeError) as error:
        main = "__main__" in str(error)
        raise UnreadableModelError(
            "the pickle needs Python code that is not here",
            where=str(path),
            expected="the module that defines the model's class, importable",
            found=said_by(error),
            fix="the model was saved by a script that defined the class itself: save it by a module that imports the class, "
            "or save its state dict"
            if main
            else "run coreproof in the folder in which that module lies",
        ) from error
    except BaseException as error:  # a pickle runs what it likes
        raise UnreadableModelError(
            "the pickle cannot be read",
            where=str(path),
            found=said_by(error),
            fix="save it again, as a state dict or with torch.export.save",
        ) from error
    try:
        return from_object(thing, name=path.stem)
    except InputError as error:
        raise UnreadableModelError(
            error.problem, where=str(path), expected=error.expected, found=error.found, fix=error.fix
        ) from None
