"""Tests of the fuzzer, and of what it found."""
