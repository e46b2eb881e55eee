"""Charts as data, and the two renderers that draw them: Bokeh in the page, matplotlib in files."""
