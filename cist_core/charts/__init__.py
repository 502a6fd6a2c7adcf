"""Charts as pure functions from readings to figures; the app and the HTML report draw the same ones.

Altair is imported here and nowhere else in the library.
"""

from cist_core.charts.figure import Figure
from cist_core.charts.histogram import STACKED_HEIGHT, histogram_figure
from cist_core.charts.per_class import per_class_figure
from cist_core.charts.ratio import ratio_figure, variance_figure

__all__ = ["STACKED_HEIGHT", "Figure", "histogram_figure", "per_class_figure", "ratio_figure", "variance_figure"]
