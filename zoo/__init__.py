"""Recurrent sequence architectures for all four patterns, on one shared recurrent core."""
