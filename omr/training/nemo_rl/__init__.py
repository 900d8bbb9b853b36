"""NeMo-RL as the engine of a run.

`engine_file.of` makes nemo_rl.yaml of a request (config.py and sft.yaml have its values, keys.py and
checks.py refuse what cannot work), `prepared_data.make` the data in the form that NeMo-RL keeps,
`one_machine.train` trains on this machine's GPUs. driver.py runs in NeMo-RL's own environment, here and in
the links of a chain.
"""
