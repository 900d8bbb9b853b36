"""Docker and podman: the image, its build and self-test, what a stage in it sees."""
