"""What a run was worth: figures, latency, and the page that shows both.

``metrics`` and ``table`` are pure; ``report`` and ``plots`` bring matplotlib and are imported by
their own names, so that a training worker does not load them.
"""
