"""The main job on real data and real teachers, for a machine with nothing but a package index."""
