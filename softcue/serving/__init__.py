"""The server: adapters in seats, one queue, and the HTTP routes over it."""
