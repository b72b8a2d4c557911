"""Runs that were not trained here: rows of progress logs, and wandb's offline files."""
