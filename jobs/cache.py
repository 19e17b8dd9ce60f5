"""Fill the signal store on a cluster: ray job submit --working-dir . -- python jobs/cache.py CONFIG."""

from raydistill.cli import main_of

if __name__ == "__main__":
    main_of("cache")
