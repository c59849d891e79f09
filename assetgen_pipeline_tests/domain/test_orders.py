"""Orders for one batch."""

import pytest

from assetgen_pipeline.domain.orders import BatchOrder


@pytest.mark.parametrize(
    ("order", "cancels", "scenes"),
    [
        (BatchOrder(action="cancel"), True, None),
        (BatchOrder(action="rows", rows=("S1", "S2")), False, {"S1", "S2"}),
        (BatchOrder(action="dance", rows=("S1",)), False, None),
    ],
)
def test_an_order_cancels_limits_or_does_nothing(order, cancels, scenes):
    assert order.cancels is cancels
    assert order.scenes == scenes
