"""Trained nets as files that are proven to work elsewhere: formats, parity, bundle, command line."""
