"""Arithmetic for CSR rows: cost by the non-zeros, and never a dense row.

``csr.py`` has the rows and ``input.py`` the first layer of an encoder. For the last layer of a
decoder and its likelihood begin with ``output.py``; it stands on ``last_layer.py`` (raw outputs),
``raw_gradients.py`` (the gradient for them, as a formula), ``parameter_gradients.py`` (from there
to the parameters), ``columns.py`` (which columns are looked at) and, for squared errors,
``gram.py``.
``optimizer.py`` is Adam for gradients that are zero in most rows (``rows.py``).
"""
