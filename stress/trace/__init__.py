"""Recorded allocator traffic: its file format, its recording, and its replay."""
