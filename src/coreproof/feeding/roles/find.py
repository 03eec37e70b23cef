"""What each input of a model is taken for: one walk backwards through its graph, and that in words."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import reduce

from coreproof.errors import CoreproofError
from coreproof.feeding.roles import arithmetic, parts  # noqa: F401 - their rules are registered
from coreproof.feeding.roles.flow import Flow
from coreproof.feeding.roles.onnx import onnx_flow
from coreproof.feeding.roles.role import PLAIN, Role, merged
from coreproof.feeding.roles.rules import ADDITIVE, UNSURE, asked
from coreproof.feeding.roles.torch import torch_flow
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.executable import compile_model
from coreproof.runtime.session import Session

_MASK = re.compile(r"(?:^|[_.])mask(?:$|[_.\d])", re.IGNORECASE)
"""A name by which people call a mask, where the graph does not tell."""


def roles_of(model: Model, running: Session | None = None) -> dict[str, Role]:
    """input -> what it is for. ``running``: the model ready to run, which saves lowering it once more.

    Empty for models whose operators are not looked at (saved runs) or cannot be (running them says why), and for those that have
    nothing but pictures.
    """
    if not (model.is_source or model.is_coreml) or all(f.image is not None for f in model.signature.inputs):
        return {}
    try:
        flow = flow_of(model, running)
    except CoreproofError:
        return {}
    found = backwards(flow)
    final = {feature.name: _final_role(feature, found[feature.name]) for feature in model.signature.inputs}
    # a program's checks of 32 bits divide by what nobody asked for, and so do the ways in which it writes a shift
    return final if model.is_source else {name: replace(role, reach=0.0) for name, role in final.items()}


def flow_of(model: Model, running: Session | None) -> Flow:
    """A model's operators in ONNX's words; of a Core ML model as it is lowered. Raises what reading and lowering it raises."""
    if isinstance(model, TorchModel):
        return torch_flow(model)
    if isinstance(model, OnnxModel):
        return onnx_flow(model.ir, model.signature, {})
    executable = running.executable if running is not None else None
    if executable is None:
        executable = compile_model(model, "fp32")
    return onnx_flow(executable.graph, model.signature, executable.values)


def backwards(flow: Flow) -> dict[str, Role]:
    """What each input has to hold for all that read it: every operator is asked once, the last one first."""
    roles: dict[str, Role] = dict.fromkeys(flow.outputs, PLAIN)
    # backwards: when a step's turn comes, all that read its results have spoken
    for step in reversed(flow.steps):
        made = [roles[name] for name in step.outputs if name in roles]
        for name, role in asked(step, reduce(merged, made, None) or PLAIN, flow):
            if name and name not in flow.static:
                roles[name] = merged(roles.get(name), role)
    return {feature: roles.get(value, PLAIN) for feature, value in flow.inputs.items()}


def _final_role(feature: Feature, role: Role) -> Role:
    """The role of an input: what was unsure is a mask only where nothing reads it as a number; a name may tell, too."""
    if role.kind == "unsure":
        return replace(role, kind="mask")
    # whole numbers are no additive mask: they are made into one first
    if role.kind == "additive" and (feature.dtype or "float").startswith(("int", "uint", "bool")):
        return replace(UNSURE, kind="mask")
    if role.plain and _MASK.search(feature.name):
        if role.kind == "scores" and (feature.dtype or "float").startswith(("float", "bfloat")):
            return replace(ADDITIVE, why="by its name, added before a softmax")
        return replace(UNSURE, kind="mask", why="a mask, by its name")
    if role.kind in ("scores", "compared"):
        return replace(PLAIN, among=role.among, reach=role.reach)
    return role


def joint(a: Role | None, b: Role | None) -> Role:
    """What an input of two models has to hold for both, ``a`` of the reference.

    What sizes something in the reference sizes it: a candidate may get there in another way, whose bounds are its own.
    """
    if a is None or b is None:
        return a or b or PLAIN
    if a.tables is not None and b.tables is None and b.kind == "index":
        b = replace(b, low=-math.inf, high=math.inf)  # of the columns it saw the shortest table
    if b.kind == "length" and a.kind in ("length", "index") and a.bounded:
        return replace(a, among=a.among | b.among)
    return merged(a, b)
