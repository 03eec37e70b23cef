"""load: anything that names or is a model becomes a Model."""

from __future__ import annotations

import ast
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreproof.errors import InputError, UnreadableModelError, UnsafeModelError
from coreproof.model.base import SIGN, Model
from coreproof.model.files.paths import meant, regular_file
from coreproof.model.named.kinds import NAMES, named_kind
from coreproof.model.public import public

if TYPE_CHECKING:
    import torch
    from coremltools.models import MLModel

    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.named.kinds import Named


@public
def load(
    source: object,
    *,
    trust: bool = False,
    folder: str | Path | None = None,
    stored: bool = False,
    function: str | None = None,
    example: object = None,
) -> Model:
    """Loads a model.

    ``source`` is a path ("a.onnx", "a.mlpackage", "a.mlmodel", one of the last two in a .zip, "a.aimodel", "a.pt2", a saved
    run "a.npz"), a name ("torchvision:NAME", "timm:NAME", "hf:OWNER/REPO[/FILE]", "https://HOST/FILE#sha256=DIGEST"),
    "module.path:callable", or the object itself: a Model, a torch.nn.Module (or a pair with its example inputs), an
    onnx.ModelProto, an onnx_ir.Model, a coremltools MLModel or its protobuf. ``folder`` is what relative paths are relative to.
    ``trust`` allows what executes code when read: pickled PyTorch files, .pt2 archives that hold more than data, code of a
    repository. ``stored``: the text was not typed by a user, but stands in a file such as a line-up; then it names data below
    ``folder``, and what names Python code, an address or a file elsewhere needs ``trust`` too. ``function``: the one of a
    package of several that every verb is to work on, else its default one; as text also ``llm.mlpackage#decode``. An MLModel
    stands at its own. ``example``: what a PyTorch module, or a TorchScript file, is called with: a tuple of tensors, or a
    dictionary of them by name.

    Raises UnreadableModelError, UnsafeModelError, MissingDependencyError, and ConversionError for a function that there is not.

    Example:
        >>> cp.load("net.onnx").name
        'net'

    """
    if example is not None:
        return _with_example(source, example, trust=trust, folder=folder, stored=stored)
    # loaded as a whole first: what it is does not depend on the function
    if function is not None:
        return load(source, trust=trust, folder=folder, stored=stored).at_function(function)
    base = None if folder is None else Path(folder)
    if isinstance(source, Model):
        return source
    if stored and isinstance(source, str | Path):
        _refuse_stored(source, base, trust=trust)
    if isinstance(source, Path):
        return _load_file(source if base is None else base / source, trust=trust)
    if isinstance(source, str):
        return _load_reference(source, base, trust=trust)
    return _from_object(source)


def _with_example(source: object, example: object, *, trust: bool, folder: str | Path | None, stored: bool) -> Model:
    """A module, of an object or of a TorchScript file, with these example inputs."""
    from coreproof.model.torch.scripted import SUFFIXES

    if isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES:
        base = None if folder is None else Path(folder)
        if stored:
            _refuse_stored(source, base, trust=trust)
        return _load_file(Path(source) if base is None else base / source, trust=trust, example=example)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(source, torch.nn.Module):
        raise InputError(
            "example inputs are for a PyTorch module, or for a TorchScript file",
            found=f"{source if isinstance(source, str | Path) else type(source).__name__}",
            fix="leave example out: the model says itself what it takes",
        )
    from coreproof.model.feeding import Source

    # a list is one argument to PyTorch; here it means as many as it holds
    inputs = tuple(example) if isinstance(example, list) else example
    inputs = inputs if isinstance(inputs, dict | tuple) else (inputs,)
    return _lent(source, Source(source, inputs))


def _lent(module: torch.nn.Module, given: object) -> Model:
    """The model of a caller's module: it computes as after ``eval()``, and is left in the modes in which it was given.

    All but one whose own ``train`` does more than set modes, which stays in evaluation mode.
    """
    from coreproof.model.torch.training_mode import lent, own_train, unlike_evaluation
    from coreproof.model.torch.user_models import from_object

    # before it is lent: a module whose eval() changes it stays in that mode
    name, otherwise = type(module).__name__, unlike_evaluation(module)
    keeper = lent(module)
    with nullcontext() if keeper is None else keeper.evaluation(module):
        made = from_object(given, name=name)
    made.lent = keeper
    if otherwise:
        left = f"; it stays so, as {own} has its own train()" if keeper is None and (own := own_train(module)) else ""
        made.notes = (*made.notes, f"given in training mode, and taken as after .eval(): {otherwise}{left}")
    return made


def _refuse_stored(source: str | Path, base: Path | None, *, trust: bool) -> None:
    from coreproof.model.stored_source import why_nameless, why_unsafe

    why = why_nameless(str(source)) if trust else why_unsafe(source, base)
    if why is not None:
        raise UnsafeModelError(
            "a model that a file names is not loaded",
            where=repr(str(source)),
            expected="a file below its folder that holds data, or torchvision:NAME, timm:NAME, hf:OWNER/REPO[/FILE]",
            found=why,
            fix="pass --trust (in Python: trust=True) if you know who made the file",
        )


def _load_reference(source: str, base: Path | None, *, trust: bool) -> Model:
    # before any path: these prefixes are ours
    if (kind := named_kind(source)) is not None:
        return _load_named(kind, source, base, trust=trust)
    path = Path(source) if base is None else base / source
    if "?" in source and not path.exists():  # what a TorchScript file is fed
        from coreproof.model.torch.scripted import SUFFIXES

        file, _, query = source.partition("?")
        if Path(file).suffix.lower() in SUFFIXES:
            return _load_file(Path(file) if base is None else base / file, trust=trust, query=query)
    # a file's name may hold the sign, or a colon; then the file is meant
    name, sign, function = source.rpartition(SIGN)
    if sign and name.rstrip("/").endswith((".mlpackage", ".aimodel")) and not path.exists():
        return _load_file(Path(name) if base is None else base / name, trust=trust).at_function(function)
    if ":" in source and not path.exists():
        from coreproof.model.torch.user_models import load_callable

        return load_callable(source)
    return _load_file(path, trust=trust)


def located(source: str) -> Path:
    """The file or package that a path or an address names, on this machine, for whoever shows it and does not load it.

    Raises InputError for names of networks, which are made in memory.
    """
    kind = named_kind(source)
    if kind is None:
        return Path(source)
    if kind == "hf":
        from coreproof.model.named.hub import model_file, read_repository

        repository = read_repository(source)
        if repository.file is not None:
            return model_file(repository, repository.file)
    if kind != "address":
        raise InputError(
            "a network of a library is no file",
            where=source,
            expected="a path, https://HOST/FILE#sha256=DIGEST, or hf:OWNER/REPO/FILE",
            fix="convert it first: coreproof convert SOURCE model.onnx",
        )
    from coreproof.model.named.address import fetched

    return fetched(source)[0]


def _load_named(kind: Named, source: str, base: Path | None, *, trust: bool) -> Model:
    if kind == "torchvision":
        from coreproof.model.torch.torchvision import load_torchvision

        return load_torchvision(source.removeprefix("torchvision:"), base)
    if kind == "timm":
        from coreproof.model.torch.timm import load_timm

        return load_timm(source.removeprefix("timm:"), base, trust=trust)
    if kind == "hf":
        from coreproof.model.named.hub import model_file, read_repository

        repository = read_repository(source)
        if repository.file is None:
            from coreproof.model.torch.transformers import load_repository

            return load_repository(repository, trust=trust)
        path, note = model_file(repository, repository.file), f"from the hub: {source}"
    else:
        from coreproof.model.named.address import fetched

        path, note = fetched(source)
    model = _load_file(path, trust=trust)
    model.notes = (*model.notes, note)
    return model


_MODEL_SUFFIXES = (".onnx", ".mlmodel", ".mlpackage", ".aimodel", ".zip", ".pt2", ".pt", ".pth", ".npz")


def _load_file(path: Path, *, trust: bool, query: str | None = None, example: object = None) -> Model:
    if not path.exists():
        fix = meant(path, lambda beside: beside.suffix.lower() in _MODEL_SUFFIXES) or "check the path"
        raise UnreadableModelError("there is no such model", where=str(path), fix=fix)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from coreproof.model.onnx.model import load_onnx

        return load_onnx(path)
    if suffix in (".mlmodel", ".mlpackage"):
        from coreproof.model.coreml.model import load_coreml

        return load_coreml(path)
    if suffix == ".aimodel":
        from coreproof.model.coreai.model import load_coreai

        return load_coreai(path)
    if suffix == ".zip":
        from coreproof.model.coreml.zipped import load_zipped

        return load_zipped(path)
    if suffix == ".pt2":
        from coreproof.model.torch.model import load_program

        return load_program(regular_file(path, what="the program"), trust=trust)
    if suffix in (".pt", ".pth", ".ts"):
        from coreproof.model.torch.scripted import is_script
        from coreproof.model.torch.user_models import load_pickle, load_script, refuse_pickle

        regular_file(path, what="the model")
        # before anything is unpickled: that is where the code would run
        if not trust:
            refuse_pickle(path)
        if is_script(path):
            return load_script(path, query, example)
        if query is not None or example is not None:
            raise InputError("only a TorchScript file is told what it is fed", where=str(path), found="a pickle")
        return load_pickle(path)
    if suffix == ".npz":
        from coreproof.model.recording import load_recording

        return load_recording(path)
    if suffix == ".mlmodelc":
        raise UnreadableModelError(
            "this is a compiled Core ML model, which holds what Core ML runs, and not the model that it was compiled from",
            where=str(path),
            expected="the .mlpackage or .mlmodel that it was made of",
            found=".mlmodelc",
            fix="ask its author for that file; Xcode, coremlc and MLModel.compileModel(at:) make the compiled one from it",
        )
    if suffix == ".py" and path.is_file():
        made = _functions(path)
        raise UnreadableModelError(
            "a Python file is told with the function in it that makes the model",
            where=str(path),
            expected=f"{path}:FUNCTION",
            found=f"functions {', '.join(made)}" if made else "no function that is called without arguments",
            fix=f"say {path}:{made[0]}" if made else "coreproof init NEW.py writes such a file",
        )
    raise UnreadableModelError(
        "coreproof does not know this kind of file",
        where=str(path),
        expected=f".onnx, .mlpackage, .mlmodel, .mlpackage.zip, .aimodel, .pt2, {NAMES} or module.path:callable",
        found="a folder" if path.is_dir() else suffix or "no suffix",
    )


def _functions(path: Path) -> list[str]:
    """The functions of a Python file that can be called as they are, read and not run."""
    try:
        parsed = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    made = [node for node in parsed.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return [node.name for node in made if len(node.args.posonlyargs + node.args.args) <= len(node.args.defaults)][:5]


def _from_object(given: object) -> Model:
    source: Any = given
    kind = f"{type(source).__module__}.{type(source).__name__}"
    # whoever hands in a module has imported torch: it need not be done here, which takes seconds
    torch = sys.modules.get("torch")
    if kind.startswith("onnx_ir.") and hasattr(source, "graph"):
        from coreproof.model.onnx.model import from_ir

        return from_ir(source)
    if hasattr(source, "DESCRIPTOR") and source.DESCRIPTOR.full_name == "onnx.ModelProto":
        from coreproof.model.onnx.model import from_message

        return from_message(source)
    if hasattr(source, "DESCRIPTOR") and source.DESCRIPTOR.full_name == "CoreML.Specification.Model":
        from coreproof.model.coreml.model import CoreMLModel

        return _checked(CoreMLModel(source, name="model"))
    if is_mlmodel(source):
        model, function = from_mlmodel(source)
        return model if function is None else model.at_function(function)
    pair = isinstance(source, tuple) and len(source) == 2
    from coreproof.model.feeding import Source

    known = () if torch is None else (torch.nn.Module, torch.export.ExportedProgram)
    if isinstance(source, Source) or isinstance(source[0] if pair else source, known):
        from coreproof.model.torch.user_models import from_object

        module = source.module if isinstance(source, Source) else source[0] if pair else source
        return (
            _lent(module, source) if isinstance(module, known[:1]) else from_object(source, name=type(module).__name__)
        )
    raise UnreadableModelError(
        f"coreproof cannot make a model of a {kind}",
        expected=f"a path, {NAMES}, module.path:callable, or a PyTorch, ONNX or Core ML model object",
    )


def is_mlmodel(source: object) -> bool:
    """Whether it is a coremltools MLModel, which is told without importing coremltools."""
    return hasattr(source, "get_spec") and hasattr(source, "weights_dir")


def from_mlmodel(source: MLModel) -> tuple[CoreMLModel, str | None]:
    """What a coremltools MLModel holds, and the function at which it was opened, None for the package's default one."""
    from coreproof.model.coreml.model import CoreMLModel

    spec, weights = source.get_spec(), source.weights_dir
    model = CoreMLModel(spec, name="model", folder=Path(weights).parent if weights else None)
    wanted = getattr(source, "function_name", None)
    # a package of one function has no list of them (Model.proto, ModelDescription)
    own = not spec.description.functions or wanted == spec.description.defaultFunctionName
    return _checked(model), None if own else wanted


def _checked(model: CoreMLModel) -> CoreMLModel:
    from coreproof.model.coreml.check import require_sound

    require_sound(model, model.spec)
    return model
