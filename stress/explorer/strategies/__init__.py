"""Strategies: which actor makes the next step. All are written over the control block."""
