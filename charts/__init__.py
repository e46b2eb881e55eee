"""Declarative charts and their two renderers: Bokeh for the page, matplotlib for files."""
