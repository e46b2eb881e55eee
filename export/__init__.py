"""Trained nets as files that are proven to work elsewhere: formats, parity, bundle, command line."""

import os

# Before onnxruntime is imported, which only then heeds it: without it, each process would write an identity of its
# machine to disk and report to its maker (onnxruntime's Privacy.md). Nothing leaves this machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
