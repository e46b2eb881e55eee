"""Live training runs: their commands and frames, the worker processes, scheduling and admission control."""

import environment

environment.fix_arithmetic()  # before a module here imports torch
