"""Whether a pipeline that ends in non-maximum suppression keeps the boxes that its definition keeps."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.detection_form import DetectionForm
from coreproof.conversion.onnx_to_coreml.detection import CONFIDENCE, COORDINATES, RAW, THRESHOLDS
from coreproof.errors import CoreproofError
from coreproof.feeding.detections import suppressed
from coreproof.feeding.drawn import random_sample
from coreproof.model.base import Model
from coreproof.runtime.open import session
from coreproof.verification.converted import ConversionCheck

_FEW = 50
"""Boxes that are sure enough in the second trial: with drawn input none may reach the threshold that was asked for."""


def check_suppression(source: Model, network: Model, pipeline: Model, form: DetectionForm) -> ConversionCheck:
    """Runs the pipeline on a drawn picture, and holds its boxes against those that the definition keeps of the network's rows.

    Once with the thresholds of ``form``, once with a confidence that some fifty boxes reach.
    """
    _, drawn = random_sample(source.signature, network.signature, graphs=[source.graph, network.graph])
    counts = []
    try:
        with session(network) as rows, session(pipeline) as whole:
            made = rows.run(drawn)
            scores, boxes = (np.asarray(made[name]) for name in RAW)
            if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
                return ConversionCheck(
                    True, "suppression not checked: the network's answer to drawn input is not finite"
                )
            reached = float(np.sort(scores.max(axis=1))[-min(_FEW, len(scores))])
            trials: list[dict[str, float]] = [{}, {THRESHOLDS[1]: reached}]
            for fed in trials:
                least = fed.get(THRESHOLDS[1], form.confidence)
                got = whole.run({**drawn, **fed})
                kept = suppressed(scores, boxes, iou=form.iou, least=least, per_class=form.per_class)
                for name, wanted in ((CONFIDENCE, scores[kept]), (COORDINATES, boxes[kept])):
                    if np.shape(got[name]) != wanted.shape or not np.allclose(got[name], wanted, rtol=1e-5, atol=1e-6):
                        said = f"the pipeline keeps {len(np.asarray(got[name]))} boxes where the definition keeps {len(kept)}"
                        return ConversionCheck(False, f"{said}, or other ones, at a confidence of {least:.3g}")
                counts.append(f"{len(kept)} at a confidence of {least:.3g}")
    except CoreproofError as error:
        return ConversionCheck(False, f"the pipeline does not run: {error.problem}")
    return ConversionCheck(
        True, f"checked: of {len(scores)} boxes it keeps those that the definition keeps ({', '.join(counts)})"
    )
