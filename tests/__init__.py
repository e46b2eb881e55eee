import os

import environment

environment.fix_arithmetic()  # before a module here imports torch
environment.ignore_proxies()  # the app that is asked runs on this machine
# `make test` has the interpreter warn of texts opened without an encoding; child processes pass by those of others.
os.environ.setdefault("PYTHONWARNINGS", "ignore::EncodingWarning")
