"""Measure a model on a cluster: ray job submit … -- python jobs/evaluate.py CONFIG --model URI."""

from raydistill.cli import main_of

if __name__ == "__main__":
    main_of("evaluate")
