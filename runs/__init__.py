"""Live runs: one visitor's training, started, paused, stepped and stopped, and the frames it gives."""

VERSION = "0.5.0"
