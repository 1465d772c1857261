"""How much to believe each of several classifiers: Heskes, "Selecting weighting factors in logarithmic opinion pools",
1998."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def opinion_weights(opinions: Sequence[Tensor], targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The weights of K classifiers' scores with which their sum makes the texts' labels most probable.

    Of texts that none was trained on, since one that knows them by heart would be believed too much. Before any text is
    seen the weights' logarithms are taken to be normal about 0 with a variance of 1.

    Args:
        opinions: the scores of each classifier, K times (N, C).
        targets: (N,) or (N, C), as `loss` takes them.
        loss: of scores and targets, a mean over targets.

    Returns:
        K weights above 0.
    """
    # An evaluation is in inference mode, which knows no gradients: out of it, with copies of its tensors.
    with torch.inference_mode(False), torch.enable_grad():
        scores, targets = torch.stack(list(opinions)).clone(), targets.clone().to(opinions[0].device)
        logarithms = scores.new_zeros(len(scores), requires_grad=True)
        search = torch.optim.LBFGS([logarithms], max_iter=50, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            search.zero_grad()
            value = loss(torch.tensordot(logarithms.exp(), scores, dims=1), targets)
            value = value + logarithms.square().sum() / (2 * targets.numel())
            value.backward()
            return value

        search.step(objective)
        return logarithms.detach().exp()
