"""Oracles: kernels that check the allocator from outside and trust none of its data."""

from __future__ import annotations
