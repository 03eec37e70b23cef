"""Damaged files of every kind that coreproof reads, through every verb: each must end in success or in a CoreproofError.

    python -m conformance.fuzz --count 30000 --seed 1 --jobs 2 --json conformance/results/fuzz.json
    python -m conformance.fuzz --kind onnx --number 1234 --keep FOLDER        # that very mutant, and how it ends

A mutant is known by its seed, kind and number, and is the same on every machine. The healthy files that it is made from are
built here, by code that shares nothing with coreproof's writers, except where only coreproof writes such a file.
"""
