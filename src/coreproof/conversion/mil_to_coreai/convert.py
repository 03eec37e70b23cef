"""An ML Program as a Core AI model: all its functions, with their names, states and values, written and read back."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.left_behind import left_behind
from coreproof.conversion.mil_to_coreai.program import missing_in, translate_function
from coreproof.conversion.operators import meaning
from coreproof.errors import ConversionError, UnsupportedOperatorsError
from coreproof.model.coreai.child import require_packages
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import StoredProgram
from coreproof.model.coreai.stored import stored_model
from coreproof.model.coreml.features import read_signature
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.declared_outputs import require_outputs
from coreproof.model.formats import program as mil

_FED = "Core AI draws no random numbers: the app draws them and feeds them; coreproof edit, verb extract, makes them inputs"


def coreml_to_coreai(model: CoreMLModel) -> CoreAIModel:
    """The Core AI model that computes what an ML Program does; each value that it keeps bears its name.

    Raises MissingDependencyError without Apple's package, UnsupportedOperatorsError, which names every operation that is not
    translated, and ConversionError for one in a form that Core AI does not express.
    """
    if not model.is_program:
        raise ConversionError(
            f"there is no way from {model.format} to coreai",
            where=model.where,
            expected="an ML Program",
            fix="coreproof upgrade MODEL OUT.mlpackage turns a NeuralNetwork into an ML Program",
        )
    require_packages()
    made = stored_model(translated(model), name=model.name)
    made.labels = model.signature.labels or model.labels
    made.feeding = model.feeding
    made.untrained = model.untrained
    made.notes = (*model.notes, *map(str, left_behind(model.signature)))
    made.provenance = {value: value for value in made.graph.values if value in model.graph.values}
    made.made_from = frozenset({model.graph.outline})
    return made


def translated(model: CoreMLModel) -> StoredProgram:
    """The program as it will be written. Raises as ``coreml_to_coreai``, save for the package, which it does not need."""
    require_outputs(model, ConversionError)
    functions = model.spec.mlProgram.functions
    missing = [entry for function in functions.values() for entry in missing_in(function)]
    if missing:
        random = all(meaning(operator).get("random", False) for operator, _ in missing)
        raise UnsupportedOperatorsError(model.where, missing, "Core AI", fix=_FED if random else None)
    described = bool(model.spec.description.functions)
    first = mil.main_name(model.spec)
    return StoredProgram(
        tuple(
            translate_function(model, name, read_signature(model.spec, name) if described else model.signature)
            # the default one first, which is how a Core AI program says that
            for name in sorted(functions, key=lambda name: (name != first, name))
        )
    )
