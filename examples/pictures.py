"""Where do the pictures of the examples go? Into output/ beside them."""

from pathlib import Path

OUTPUT = Path(__file__).parent / "output"


def save(figure, name):
    """Write a figure to output/NAME.png."""
    OUTPUT.mkdir(exist_ok=True)
    figure.savefig(OUTPUT / f"{name}.png", dpi=130)
