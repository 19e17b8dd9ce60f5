"""What a run was worth: figures, and the page that shows them.

``metrics`` and ``table`` are pure; ``report`` and ``plots`` bring matplotlib and are imported by
their own names, so that a training worker does not load them.
"""
