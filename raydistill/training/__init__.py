"""The student's training: one step, the worker's loop, checkpoints, and the Ray Train trainer."""
