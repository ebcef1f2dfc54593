"""Two rows of tokens for the tests of text models, and their masks."""

import torch

TOKENS = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(7))
ALL = torch.ones(2, 9, dtype=torch.long)
RIGHT_PADDED = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
LEFT_PADDED = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
