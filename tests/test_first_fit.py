"""A first fit imports nothing that it does not need, in a process of its own."""

import subprocess
import sys

import pytest

# Each of these takes from half a second to two, and a fit needs none of them.
NOT_NEEDED = ["torch._dynamo", "torch._inductor", "sympy", "sklearn.mixture", "matplotlib"]

PROGRAM = """
import sys
import numpy as np, scipy.sparse as sp
import skae, skae.networks
X = np.random.default_rng(0).poisson(1.0, size=(40, 6)).astype(float)
{fit}
print(*sys.modules)
"""

FITS = {
    "transformers": """
for name in skae.__all__:
    if name.endswith("Transformer"):
        size = {"layer_sizes": (4, 2)} if name.startswith("Stacked") else {"n_components": 2}
        made = getattr(skae, name)(**size, max_iter=2, random_state=0).fit(X)
        made.transform(X), made.partial_fit(X).score(X)
for method in ("exact", "sampled"):
    sparse = skae.VAETransformer(2, likelihood="poisson", sparse_method=method, random_state=0)
    sparse.partial_fit(sp.csr_array(X)).score(sp.csr_array(X))
skae.AutoencoderTransformer(2, optimizer="sgd", random_state=0).partial_fit(X)
""",
    "convolutions": """
from torch import nn
network = skae.networks.CustomNetwork(
    lambda n, k: nn.Sequential(nn.Unflatten(1, (1, n)), nn.Conv1d(1, k, n), nn.Flatten()),
    lambda k, n: nn.Sequential(nn.Unflatten(1, (k, 1)), nn.ConvTranspose1d(k, 1, n), nn.Flatten()),
)
skae.SparseAutoencoderTransformer(2, network=network, random_state=0).partial_fit(X).score(X)
""",
    "detector": "skae.AutoencoderOutlierDetector(random_state=0).fit(X).predict(X)",
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_a_first_fit_imports_nothing_that_it_does_not_need(fit):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(fit=fit)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "torch" in loaded
    assert [name for name in NOT_NEEDED if name in loaded] == []
