"""The page: everything Gradio. Lesson tabs, the live view, downloads, the API, and how it looks."""
