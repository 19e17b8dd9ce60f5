"""Search on a cluster: ray job submit --working-dir . -- python jobs/tune.py CONFIG [--set a.b=c] [--resume]."""

from raydistill.cli import main_of

if __name__ == "__main__":
    main_of("tune")
