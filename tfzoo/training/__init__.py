"""Optimisers and schedules, callbacks, checkpoints."""
