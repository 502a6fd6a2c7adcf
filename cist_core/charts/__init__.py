"""Charts as pure functions from readings to figures; the app and the HTML report draw the same ones.

Altair is imported here and nowhere else in the library.
"""

from cist_core.charts.figure import Figure
from cist_core.charts.histogram import histogram_figure, stacked_histograms
from cist_core.charts.per_class import per_class_figure
from cist_core.charts.ratio import ratio_figure, variance_figure

__all__ = ["Figure", "histogram_figure", "per_class_figure", "ratio_figure", "stacked_histograms", "variance_figure"]
