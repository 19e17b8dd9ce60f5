"""Distil on a cluster: ray job submit --working-dir . -- python jobs/distill.py CONFIG [--set a.b=c]."""

from raydistill.cli import main_of

if __name__ == "__main__":
    main_of("train")
