"""The result table in the layout of the documents' runner, for comparison with its tables."""

from __future__ import annotations

from typing import ClassVar

from aelab.report.cells import Column, Facts
from aelab.report.tables import (
    METER,
    OPTIONAL,
    OUTCOMES,
    Layout,
    distinct_columns,
    extra_columns,
    images_of_losses,
    matrix_columns,
)


class LegacyLayout(Layout):
    """Columns, headers, order and meter of the documents' runner."""

    is_plain: ClassVar[bool] = True

    def columns(
        self, facts: list[Facts], matrix: list[str], included: list[Column]
    ) -> list[Column]:
        """All columns; each number of images has a separate loss column."""
        for fact in facts:
            if fact.loss is not None:
                fact.cells[f"loss@{fact.cells['images']}"] = fact.loss
        losses = [
            Column(f"loss@{images}", f"validation loss ({images:,} steps)", "loss")
            for images in images_of_losses(facts)
        ]
        return distinct_columns(
            [
                Column("id", "matrix_id", "text", ("matrix_id",)),
                *matrix_columns(facts, matrix),
                OPTIONAL["slug"],
                *losses,
                METER,
                *included,
                *extra_columns(facts),
                # parameters, minutes and images/s
                *(column.named(column.aliases[0]) for column in OUTCOMES[:3]),
            ]
        )


LEGACY = LegacyLayout()
