"""Trained nets as files that are proven to work elsewhere: formats, parity, bundle, command line."""

import os

import environment

VERSION = "0.7.0"  # of the program; a manifest names the one that wrote its texts

# Before onnxruntime is imported, which only then heeds it: without it, each process would write an identity of its
# machine to disk and report to its maker (onnxruntime's Privacy.md). Nothing leaves this machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

environment.fix_arithmetic()  # before a module here imports torch
