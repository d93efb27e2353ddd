"""Optimal dynamic partial order reduction: one schedule for each class of equivalent ones."""
