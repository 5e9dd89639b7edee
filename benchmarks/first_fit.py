"""What does the first fit of a process cost, imports included?

Fresh processes, in turns: ``import torch`` alone; ``import torch, sklearn.base``, which skae needs
in any case; and ``import skae`` with a fit of `load_wine`. Prints the median processor time of each
(wall time depends on what else runs), what the last two take beyond the first, and the modules that
took longest to import.

Run: python benchmarks/first_fit.py [--rounds 7] [--estimator AutoencoderTransformer]
"""

import os
import re
import subprocess
import sys
from functools import partial

import numpy as np

from harness.command import argument_parser, start
from harness.report import Table
from harness.timing import in_turns

FIT = """
from sklearn.datasets import load_wine
from skae import {estimator}
{estimator}(2, random_state=0).fit(load_wine().data)
"""


def processor_time(program):
    """Return the seconds of processor time of a fresh process that runs a program."""
    before = os.times()
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def largest_imports(program, n_largest=12):
    """Return (own milliseconds, package) of the packages whose modules took longest to import."""
    command = [sys.executable, "-W", "ignore", "-X", "importtime", "-c", program]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    own = {}
    for line in lines:
        found = re.match(r"import time: +(\d+) \| +\d+ \| +(\S+)", line)
        if found:
            package = ".".join(found[2].split(".")[:2])
            own[package] = own.get(package, 0.0) + float(found[1]) / 1e3
    return sorted(((ms, package) for package, ms in own.items()), reverse=True)[:n_largest]


def main():
    parser = argument_parser(__doc__, rounds=7, threads=None)
    parser.add_argument("--estimator", default="AutoencoderTransformer")
    arguments = start(parser)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are timed
    programs = {
        "import torch": "import torch",
        "import torch, sklearn.base": "import torch, sklearn.base",
        "import skae, first fit": FIT.format(estimator=arguments.estimator),
    }
    sides = {name: partial(processor_time, program) for name, program in programs.items()}
    times = in_turns(sides, arguments.rounds)
    table = Table("CPU seconds", {"median": ".2f", "beyond torch": ".2f"}, title_width=28)
    for name, seconds in times.items():
        table.row(name, [np.median(seconds), np.median(seconds - times["import torch"])])
    print("\nlargest imports of the last, own time:")
    for milliseconds, package in largest_imports(programs["import skae, first fit"]):
        print(f"{milliseconds:8.0f} ms  {package}")


if __name__ == "__main__":
    main()
