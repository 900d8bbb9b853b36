"""NeMo-RL as the engine: its configuration and keys, the checks of both, its driver, prepared data, one machine."""
