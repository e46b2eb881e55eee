"""Benchmarks. Most compare with a baseline in the same run, because absolute times depend on the machine."""

import environment

environment.fix_arithmetic()  # before torch is imported
environment.ignore_proxies()  # the measured app runs on this machine
