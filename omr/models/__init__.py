"""A model on its way from the hub to final/: brought, patched, converted, averaged, finished, and compared.

The other wings call `hub.download`, `base_model.make`, `convert.from_trl` and `from_nemo_rl`,
`final.average.make` (which takes over what NeMo-Skills' jobs converted), and `passport.check`, which refuses
a folder whose files contradict each other, the recipe or the published `architecture`. `rope`, `tokens` and
`weights` read config.json, tokenizer and safetensors files.
"""
