"""The HTTP service: the application, its middleware and routes, who may ask, its settings and its start."""
