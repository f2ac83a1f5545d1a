"""Figures of a trained model by name: `FIGURES` lists them, `drawn_figure` draws one.

A figure is made from a `Subject` and drawn by functions of `report`; the result is the bytes of a
file. Figures of several runs are in `several_runs`.
"""

from __future__ import annotations

from aelab.study.figures.table import FIGURES, Figure, FigureFile, drawn_figure

__all__ = ["FIGURES", "Figure", "FigureFile", "drawn_figure"]
