"""A run's folder on disk: its frozen request, checkpoints, lease, metrics, events, stop requests.

Standard library alone: an engine imports it in an environment of its own."""
