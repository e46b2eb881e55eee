"""The web server around the page: request limits, response cache, health, shutdown, and the adapter to Gradio."""
