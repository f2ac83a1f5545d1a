"""Pictures of a trained model by name: `FIGURES` says which, `figure` draws one of a stored run.

A figure is made from a `Subject` and drawn by functions of `report`; it comes as the bytes of a
file. Figures of several runs stand in `several_runs`.
"""

from __future__ import annotations

from aelab.study.figures.table import FIGURES, Figure, FigureFile, drawn_figure

__all__ = ["FIGURES", "Figure", "FigureFile", "drawn_figure"]
