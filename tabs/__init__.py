"""The Gradio page: lesson tabs, live chart, downloads, API, styles and scripts."""
