"""What do models of sparse tables learn, beside simple ones, and how fast?

Reads the folder of data sets by its path. Parts, all by default, each a file of sparse_tables/:

- perplexity: how well do topics predict the words of new messages, beside LDA and NMF? With --words
  N for the N most frequent words alone; with --longest N messages of more words than that (encoded
  binaries) are left out.
- speed: how much sooner is a held-out value reached where columns are sampled?
- probe: what is left of the classes of texts in 32 numbers, beside TruncatedSVD and NMF?
- counts: do generated cells look like cells, by likelihood?

Run: python benchmarks/sparse_quality.py FOLDER [perplexity speed probe counts] [--seeds 3]
"""

import numpy as np

from harness.command import argument_parser, folder, start
from sparse_tables import counts, perplexity, probe, speed

PARTS = {part.__name__.split(".")[-1]: part for part in (perplexity, speed, probe, counts)}


def main():
    parser = argument_parser(__doc__, seeds=3)
    parser.add_argument("folder", type=folder)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--longest", type=float, default=np.inf)
    arguments = start(parser)
    for part in arguments.parts:
        PARTS[part].run(arguments.folder, arguments)


if __name__ == "__main__":
    main()
