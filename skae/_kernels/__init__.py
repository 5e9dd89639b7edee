"""Arithmetic for CSR rows: cost by the non-zeros, and never a dense row.

``csr.py`` has the rows, ``input.py`` the first layer of an encoder, ``output.py`` the last layer of
a decoder together with its likelihood (``gram.py`` for squared errors, ``columns.py`` for which
columns are looked at), and ``optimizer.py`` Adam for gradients that are zero in most rows.
"""
