"""Benchmarks, one a module; each puts a figure of ours beside its rival's of the same run."""
