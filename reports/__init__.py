"""The renderer of reports, its sections and its templates."""

from .page import render as render
from .report import Measured as Measured
from .texts import LANGUAGES as LANGUAGES
