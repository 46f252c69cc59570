"""Stages that map artifacts on disk to artifacts on disk, and the run that strings them together."""
