"""Several trainings in one pass: networks of one shape, their weights on top of each other.

The way of a training: `trainer.run` is about to begin one, in a task of a search (`backend.py`). If
nothing speaks against it (`run.py`), the task halts there (`meeting.py`), until as many others as
there are have come as far. Those of a kind are then trained together (`loop.py`): their weights are
stacked, smaller ones padded with zeros (`stack.py`, `layers.py`), and each step is one of all
(`losses.py`), recorded once and made again (`tape.py`). Every model gets its weights and its
history back, and its task goes on as if it had trained alone.
"""
