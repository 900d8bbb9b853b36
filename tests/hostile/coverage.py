"""`python -m tests.hostile.coverage squeue [options of libFuzzer]`: one reader, led by coverage.

Needs the package atheris, which is in no lock: it has no wheel for each Python of this toolkit. What it
finds is written into the folder where it is run, and belongs into the reader's `found`.
"""

import importlib
import sys
import tempfile
from pathlib import Path

MODULES = ("run_records", "settings_text", "model_files", "rows", "checkpoints")


def main() -> None:
    """Fuzz the named reader until it breaks, or is interrupted."""
    import atheris

    with atheris.instrument_imports(include=["omr"]):
        modules = [importlib.import_module(f"tests.hostile.test_{name}") for name in MODULES]
    readers = {name: reader for module in modules for name, reader in module.READERS.items()}
    if sys.argv[1:2] == [] or sys.argv[1] not in readers:
        sys.exit(f"choose a reader: {', '.join(readers)}")
    from tests.hostile.kit import hold

    reader = readers[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, data in enumerate((reader.good, *reader.found)):
            (corpus / str(number)).write_bytes(data)
        atheris.Setup(
            [*sys.argv, str(corpus), "-max_len=100000"],
            lambda data: hold(reader, data, Path(folder, "x")),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
