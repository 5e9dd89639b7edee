"""Command lines: the opening text of a script as its help, the shared options, one thread."""

import argparse
import warnings
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning


def argument_parser(text, *, seeds=None, rounds=None, threads=1):
    """Return a parser whose help is a script's text, with those of the shared options that it has.

    The numbers are defaults; with None the script does not have the option.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help="seeds 0 to SEEDS - 1")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="how often all take turns")
    if threads is not None:
        parser.add_argument("--threads", type=int, default=threads)
    return parser


def start(parser):
    """Return the arguments, after setting threads and silencing what short trainings warn of."""
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if "threads" in arguments:
        set_threads(arguments.threads)
    return arguments


def set_threads(n_threads):
    """Let torch, BLAS and OpenMP use that many threads in this process."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(n_threads)
    threadpool_limits(n_threads)


def folder(text):
    """Return the path of a folder that exists (a type of argument)."""
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return path


def file(text):
    """Return the path of a file that exists (a type of argument)."""
    if not (path := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path
