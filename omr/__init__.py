"""NVIDIA's OpenMathReasoning SFT recipe: small pure rooms, see docs/architecture.md."""
