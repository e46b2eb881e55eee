"""Live runs: one visitor's training, started, paused, stepped and stopped, and the frames it gives."""

import environment

environment.fix_arithmetic()  # before a module here imports torch
