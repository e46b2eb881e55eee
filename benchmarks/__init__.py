"""What is measured, always against a baseline in the same run: these are ratios, not promises of milliseconds."""

import environment

environment.fix_arithmetic()  # before a module here imports torch
environment.ignore_proxies()  # the app that is asked runs on this machine
