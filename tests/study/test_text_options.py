"""Options of metrics from the command line: their types, and what a mistake is told."""

from __future__ import annotations

import pytest

from aelab.cli.evaluate import _options
from aelab.errors import UserError
from aelab.study.evaluation import metric_options


def test_options_of_metrics_get_the_types_of_their_defaults() -> None:
    given = _options(["iwae.samples=5_000", "samples.sampler=mixture"], None)
    found = metric_options(given, ["iwae", "samples", "elbo"])
    assert found == {"iwae": {"samples": 5000}, "samples": {"sampler": "mixture"}}


def test_the_sampler_is_an_option_of_samples() -> None:
    assert _options([], "flow") == {"samples": {"sampler": "flow"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("iwae.sample=3", "the metric 'iwae' has no option 'sample'; did you mean 'samples'"),
        ("iwae.samples=many", "the metric 'iwae', option samples: expected a whole number"),
        ("iwae.samples=0", "the metric 'iwae', option samples: at least 1, got 0"),
        ("elbo.samples=3", "options are given for 'elbo', which is not measured"),
        ("samples=3", "--option samples=3: write --option METRIC.KEY=VALUE"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_measured(text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        metric_options(_options([text], None), ["iwae"])
    assert told in str(error.value)
