"""The compiler of the kernel language: from functions to code that this process can call."""
