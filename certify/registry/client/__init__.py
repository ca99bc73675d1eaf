"""What talks to a registry over HTTP: the typed client, its transport, push, pull and heartbeats."""
