"""Ablation studies of depth transformers: declare a grid, train it resumably, report it honestly."""

__version__ = "0.1.0"
