"""NeMo-RL as the engine: its configuration and keys, their checks, its driver, prepared data, one machine."""
