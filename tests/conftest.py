"""What tests of several files are run with."""

import signal

import pytest


@pytest.fixture
def usual_handler():
    """Ctrl-C raises an interrupt, also where what began the tests had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
