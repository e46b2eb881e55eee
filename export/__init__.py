"""Export of trained nets to files checked for use in other runtimes: formats, parity, bundles, command line."""

import os

import environment

VERSION = "0.7.0"  # of the program; recorded in each manifest

# Must be set before onnxruntime is imported. Otherwise each process writes a machine ID to disk and sends telemetry
# (onnxruntime's Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

environment.fix_arithmetic()  # before any module of this package imports torch
