"""The parts of ``sparse_quality.py``: one question a file, each with ``run(folder, arguments)``."""
